"""Whatever the layout of a file, an edit means what it says and keeps every other character."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from l4lb.control.config import rewrite
from l4lb.model import Endpoint

COMMENTS = st.sampled_from(
    ["", "\n", "# about\n", "\n# above\n", "\n  # two\n# lines\n", "# below\n\n# above\n"]
)
TRAILING = st.sampled_from(["", "  # x = [1]", " # ]]"])
MARGIN = st.sampled_from(["", "  "])
WEIGHT = st.sampled_from(["", "weight=3", "weight = 0"])


@st.composite
def backend_lists(draw: st.DrawFn, addresses: list[str]) -> str:
    """``backends = [...]``, on one line or several."""
    first = draw(st.sampled_from(["", " ", "\n  ", "  # c\n\t"]))
    between = draw(st.sampled_from(["", " ", "\n  ", "\n\t# d\n\t"]))
    closing = draw(st.sampled_from(["", ",", " ,  # e\n", "\n", " # f\n"])) if addresses else ""
    tables = []
    for address in addresses:
        weight = draw(WEIGHT)
        tables.append(f'{{ address = "{address}"{weight and ", "}{weight} }}')
    return f"backends = [{first}{f',{between}'.join(tables)}{closing}]{draw(TRAILING)}\n"


@st.composite
def backend_tables(draw: st.DrawFn, addresses: list[str], health: str) -> str:
    """``[[services.backends]]`` with ``[services.health]`` before, between or after them."""
    margin, tables = draw(MARGIN), []
    for address in addresses:
        tables.append(f"{draw(COMMENTS)}{margin}[[services.backends]]{draw(TRAILING)}\n")
        tables[-1] += f'{margin}address="{address}"{draw(TRAILING)}\n{draw(COMMENTS)}'
        tables[-1] += f"{margin}{draw(WEIGHT)}\n"
    tables.insert(draw(st.integers(0, len(tables))), health)
    return "".join(tables)


@st.composite
def files(draw: st.DrawFn) -> str:
    """Valid configs."""
    text = draw(COMMENTS) + draw(st.sampled_from(["", "[gateway]\nhold = 3\n"]))
    for number in range(draw(st.integers(1, 3))):
        margin = draw(MARGIN)
        text += f'{draw(COMMENTS)}{margin}[[services]]{draw(TRAILING)}\n{margin}name = "s{number}"\n'
        text += f'{draw(COMMENTS)}{margin}address = "10.1.0.{number + 1}:80"{draw(TRAILING)}\n'
        addresses = [f"10.2.0.{i + 1}:80" for i in range(draw(st.integers(0, 3)))]
        health = draw(
            st.sampled_from(["", f"{draw(COMMENTS)}[services.health]\nrise = 1{draw(TRAILING)}\n"])
        )
        if draw(st.booleans()):
            text += draw(backend_lists(addresses)) + health
        else:
            text += draw(backend_tables(addresses, health))
    text += draw(COMMENTS)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def services(text: str) -> dict[str, dict[str, Any]]:
    """What a text says of its services, by name, with what may be left out filled in."""
    tables = tomllib.loads(text).get("services", [])
    for table in tables:
        for backend in table.setdefault("backends", []):
            backend.setdefault("weight", 1)
    return {table["name"]: table for table in tables}


def is_within(part: str, whole: str) -> bool:
    """Whether ``part`` is ``whole`` with some characters left out."""
    rest = iter(whole)
    return all(character in rest for character in part)


NAMES = st.integers(0, 2)


@given(text=files(), index=NAMES, weight=st.integers(0, 5))
def test_adding_a_backend(text, index, weight):
    expected = services(text)
    name = f"s{index % len(expected)}"
    expected[name]["backends"].append({"address": "10.2.0.99:80", "weight": weight})

    added = rewrite.add_backend(text, name, Endpoint.parse("10.2.0.99:80"), weight)

    assert services(added) == expected
    assert is_within(text, added)


@given(text=files(), index=NAMES)
def test_removing_each_backend(text, index):
    name = f"s{index % len(services(text))}"
    for number, backend in enumerate(services(text)[name]["backends"]):
        expected = services(text)
        del expected[name]["backends"][number]

        removed = rewrite.remove_backend(text, name, Endpoint.parse(backend["address"]))

        assert services(removed) == expected
        assert is_within(removed, text)


@given(text=files(), index=NAMES)
def test_changing_each_weight(text, index):
    name = f"s{index % len(services(text))}"
    for number, backend in enumerate(services(text)[name]["backends"]):
        expected = services(text)
        expected[name]["backends"][number]["weight"] = 7

        changed = rewrite.set_weight(text, name, Endpoint.parse(backend["address"]), 7)

        assert services(changed) == expected
        comments = [line.partition("#")[2] for line in text.splitlines()]
        assert [line.partition("#")[2] for line in changed.splitlines() if "#" in line] == [
            comment for comment in comments if comment
        ]


@given(text=files(), index=NAMES)
def test_removing_a_service(text, index):
    expected = services(text)
    name = f"s{index % len(expected)}"
    del expected[name]

    removed = rewrite.remove_service(text, name)

    assert services(removed) == expected
    assert is_within(removed, text)
    assert tomllib.loads(removed).get("gateway") == tomllib.loads(text).get("gateway")


@given(text=files())
def test_adding_a_service(text):
    fields = {"name": "new", "address": "10.1.0.9:9", "health": {"fall": 9}, "backends": []}
    expected = services(text) | {"new": fields}

    added = rewrite.add_service(text, fields)

    assert services(added) == expected
    assert is_within(text, added)
