"""The scan of a TOML text finds every key that tomllib finds, where it stands."""

from __future__ import annotations

import tomllib

import pytest

from l4lb.control.config.layout import KeyPath, layout, line_and_column

TEXT = '''\
# a comment with [brackets] and "quotes"
top = 1   # and = here
"quoted key" = 'its' # [x]
dotted . "a.b" . c = 1979-05-27 07:32:00
text = """
[not a header]
key = 1 \\""" more""""" # five quotes close it
raw = \'\'\'
# not a comment \'\'\'\'\'
empty = {}
none = []

[ gateway ]
list = [ 1, [2, 3], # ]
  "a,b", { x = 1, y.z = [4] },
]
[gateway.limits]
  half_open = 0xFF
[[services]]
name = "a"
  [[services.backends]]
  address = "1"
[services.health]
rise = 1
[[services.backends]]
address = "2"
[[services]]
name = "b"
backends = [ { address = "3" } ,
             { address = "4" } ]
last = +inf'''


def paths(value: object, path: KeyPath = ()) -> set[KeyPath]:
    """Every key and element of a parsed document."""
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return {path} | {found for key, item in items for found in paths(item, (*path, key))}


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("\n", "\r\n"), "", "\n", "# only a comment"])
def test_every_key_and_element_is_found_and_nothing_else(text):
    assert set(layout(text).spans) == paths(tomllib.loads(text)) - {()}


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("\n", "\r\n")])
def test_a_span_holds_exactly_the_value(text):
    def check(value: object, path: KeyPath) -> None:
        span = layout(text).spans[path]
        if text[span.start] != "[" or isinstance(value, list):
            written = text[span.value : span.end]
            assert tomllib.loads(f"value = {written}") == {"value": value}

    data = tomllib.loads(text)
    for path in (
        ("top",),
        ("quoted key",),
        ("dotted", "a.b", "c"),
        ("text",),
        ("raw",),
        ("empty",),
        ("none",),
        ("gateway", "list"),
        ("gateway", "list", 1, 1),
        ("gateway", "list", 2),
        ("gateway", "list", 3),
        ("gateway", "list", 3, "y", "z", 0),
        ("gateway", "limits", "half_open"),
        ("services", 0, "backends", 1, "address"),
        ("services", 1, "backends", 1),
        ("services", 1, "last"),
    ):
        value = data
        for key in path:
            value = value[key]
        check(value, path)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("top",), (2, 1)),
        (("dotted",), (4, 1)),
        (("raw",), (8, 1)),
        (("gateway",), (13, 1)),
        (("gateway", "list", 1, 0), (14, 14)),
        (("gateway", "list", 2), (15, 3)),
        (("gateway", "list", 3, "y", "z"), (15, 19)),
        (("gateway", "limits", "half_open"), (18, 3)),
        (("services", 0), (19, 1)),
        (("services", 0, "backends", 0), (21, 3)),
        (("services", 0, "backends", 1, "address"), (26, 1)),
        (("services", 1), (27, 1)),
        (("services", 1, "backends", 1), (30, 14)),
    ],
)
def test_places(path, place):
    assert line_and_column(TEXT, layout(TEXT).spans[path].start) == place


def test_sections_end_with_their_last_value():
    sections = [(s.path, TEXT[s.start : s.header_end], TEXT[: s.end][-6:]) for s in layout(TEXT).sections]
    assert sections == [
        (("gateway",), "[ gateway ]", "] },\n]"),
        (("gateway", "limits"), "[gateway.limits]", "= 0xFF"),
        (("services", 0), "[[services]]", ' = "a"'),
        (("services", 0, "backends", 0), "[[services.backends]]", ' = "1"'),
        (("services", 0, "health"), "[services.health]", "se = 1"),
        (("services", 0, "backends", 1), "[[services.backends]]", ' = "2"'),
        (("services", 1), "[[services]]", "= +inf"),
    ]
