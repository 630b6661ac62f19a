"""Edits change what was asked and nothing else, in the style of the file."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

import pytest

import l4lb.service
from l4lb.control.config import rewrite
from l4lb.control.config.config import ConfigError, parse
from l4lb.model import Endpoint

TEXT = """\
# The gateway of rack 7
[gateway]
hold = 3   # seconds

# The web
[[services]]
name    = "web"
address = "10.1.0.100:80"

  [services.health]
  check = "tcp"

  # the old box
  [[services.backends]]
  address = "10.2.0.11:80"

  # the new box
  [[services.backends]]
  address = "10.2.0.12:80"
  weight = 2   # twice as fast
  # replaced in spring

# --- DNS ---
[[services]]
name = "dns"
protocol = "udp"
address = "10.1.0.100:53"
backends = [
    { address = "10.2.0.11:53" },  # first
    { address = "10.2.0.12:53", weight = 3 },
    # more to come
]

# --- Mail ---
[[services]]
name = "mail"
address = "10.1.0.100:25"
# end
"""


def at(text: str) -> Endpoint:
    return Endpoint.parse(text)


def changed(before: str, after: str) -> list[str]:
    """The lines that went and came, in order."""
    parse(after, Path("l4lb.toml"))
    lines = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line for line in lines if line[0] in "+-"]


def test_a_backend_is_added_below_its_neighbours_and_above_the_next_comment():
    after = rewrite.add_backend(TEXT, "web", at("10.2.0.13:80"), 4)
    new = '  [[services.backends]]\n  address = "10.2.0.13:80"\n  weight = 4\n\n'
    assert after == TEXT.replace("# --- DNS ---\n", f"{new}# --- DNS ---\n")


def test_the_weight_is_written_if_the_neighbour_writes_it_or_it_is_not_one():
    assert changed(TEXT, rewrite.add_backend(TEXT, "dns", at("10.2.0.13:53"))) == [
        '+     { address = "10.2.0.13:53", weight = 1 },\n'
    ]
    plain = TEXT.replace(", weight = 3", "")
    assert changed(plain, rewrite.add_backend(plain, "dns", at("10.2.0.13:53"))) == [
        '+     { address = "10.2.0.13:53" },\n'
    ]


def test_the_first_backend_of_a_service_looks_like_those_of_others():
    assert changed(TEXT, rewrite.add_backend(TEXT, "mail", at("10.2.0.11:25"))) == [
        "+ \n",
        "+   [[services.backends]]\n",
        '+   address = "10.2.0.11:25"\n',
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[]", '[{ address = "10.2.0.13:80", weight = 5 }]'),
        (
            '[{address="10.2.0.11:80"}]',
            '[{address="10.2.0.11:80"}, {address="10.2.0.13:80", weight=5}]',
        ),
        (
            '[{ address = "10.2.0.11:80" },]',
            '[{ address = "10.2.0.11:80" }, { address = "10.2.0.13:80", weight = 5 },]',
        ),
        (
            '[\n  { address = "10.2.0.11:80" } # one\n]',
            '[\n  { address = "10.2.0.11:80" }, # one\n  { address = "10.2.0.13:80", weight = 5 }\n]',
        ),
        (
            '[\n  { address = "10.2.0.11:80" }]',
            '[\n  { address = "10.2.0.11:80" },\n  { address = "10.2.0.13:80", weight = 5 }]',
        ),
        (
            '[\n  { address = "10.2.0.11:80" }, ]',
            '[\n  { address = "10.2.0.11:80" },\n  { address = "10.2.0.13:80", weight = 5 }, ]',
        ),
    ],
)
def test_backends_written_as_a_list(before, after):
    text = f'[[services]]\nname = "web"\naddress = "10.1.0.100:80"\nbackends = {before}\n'
    added = rewrite.add_backend(text, "web", at("10.2.0.13:80"), 5)
    assert added == text.replace(before, after)
    parse(added, Path("l4lb.toml"))


@pytest.mark.parametrize("name", ["a", "b"])
def test_services_written_as_a_list(name):
    text = (
        'services = [ { name = "a", address = "10.1.0.9:80", backends = [ {address = "10.2.0.1:80"} ] },\n'
        '             { name = "b", address = "10.1.0.9:81" } ]\n'
    )
    added = rewrite.add_backend(text, name, at("10.2.0.2:80"))
    backends = {service.name: service.backends for service in parse(added, Path("l4lb.toml")).services}
    assert backends[name][-1].address == at("10.2.0.2:80")
    removed = rewrite.remove_service(added, name)
    assert [service.name for service in parse(removed, Path("l4lb.toml")).services] == ["ab".strip(name)]


def test_values_that_stand_in_a_column_stay_in_a_column():
    text = '[[services]]\nname     = "web"\naddress  = "10.1.0.100:80"\n'
    fields = {"name": "dns", "address": "10.1.0.100:53", "protocol": "udp", "affinity_timeout": 60}
    assert changed(text, rewrite.add_service(text, fields)) == [
        "+ \n",
        "+ [[services]]\n",
        '+ name     = "dns"\n',
        '+ address  = "10.1.0.100:53"\n',
        '+ protocol = "udp"\n',
        "+ affinity_timeout = 60\n",
    ]


def test_files_without_blank_lines_stay_so_and_windows_line_breaks_too():
    text = (
        '[[services]]\r\nname = "web"\r\naddress = "10.1.0.100:80"\r\n'
        '[[services.backends]]\r\naddress = "10.2.0.11:80"\r\n'
    )
    assert rewrite.add_backend(text, "web", at("10.2.0.12:80")) == (
        text + '[[services.backends]]\r\naddress = "10.2.0.12:80"\r\n'
    )


def test_a_file_without_a_last_line_break():
    text = '[[services]]\nname = "web"\naddress = "10.1.0.100:80"'
    assert rewrite.add_backend(text, "web", at("10.2.0.12:80")) == (
        text + '\n\n[[services.backends]]\naddress = "10.2.0.12:80"\n'
    )


def test_removing_a_backend_takes_the_comments_that_are_about_it():
    assert changed(TEXT, rewrite.remove_backend(TEXT, "web", at("10.2.0.12:80"))) == [
        "- \n",
        "-   # the new box\n",
        "-   [[services.backends]]\n",
        '-   address = "10.2.0.12:80"\n',
        "-   weight = 2   # twice as fast\n",
        "-   # replaced in spring\n",
    ]
    assert changed(TEXT, rewrite.remove_backend(TEXT, "dns", at("10.2.0.11:53"))) == [
        '-     { address = "10.2.0.11:53" },  # first\n'
    ]


@pytest.mark.parametrize(
    ("gone", "after"),
    [
        (1, '[ { address = "10.2.0.2:80" }, { address = "10.2.0.3:80" }, ]'),
        (2, '[ { address = "10.2.0.1:80" }, { address = "10.2.0.3:80" }, ]'),
        (3, '[ { address = "10.2.0.1:80" }, { address = "10.2.0.2:80" }, ]'),
    ],
)
def test_removing_from_a_list_on_one_line(gone, after):
    before = '[ { address = "10.2.0.1:80" }, { address = "10.2.0.2:80" }, { address = "10.2.0.3:80" }, ]'
    text = f'[[services]]\nname = "web"\naddress = "10.1.0.100:80"\nbackends = {before}\n'
    assert rewrite.remove_backend(text, "web", at(f"10.2.0.{gone}:80")) == text.replace(before, after)


@pytest.mark.parametrize(
    ("before", "gone", "after"),
    [
        (
            '[ { address = "10.2.0.1:80" },  # Ann\'s\n  { address = "10.2.0.2:80" } ]',
            2,
            '[ { address = "10.2.0.1:80" },  # Ann\'s\n   ]',
        ),
        (
            '[ { address = "10.2.0.1:80" } # Ann\'s\n, { address = "10.2.0.2:80" } ]  # all',
            2,
            '[ { address = "10.2.0.1:80" } # Ann\'s\n,  ]  # all',
        ),
        (
            '[ { address = "10.2.0.1:80" },  # mine\n  # Ann\'s\n  { address = "10.2.0.2:80" } ]',
            1,
            '[ # Ann\'s\n  { address = "10.2.0.2:80" } ]',
        ),
    ],
)
def test_removing_from_a_list_keeps_the_comments_of_those_that_stay(before, gone, after):
    text = f'[[services]]\nname = "web"\naddress = "10.1.0.100:80"\nbackends = {before}\n'
    assert rewrite.remove_backend(text, "web", at(f"10.2.0.{gone}:80")) == text.replace(before, after)


def test_removing_a_service_leaves_its_neighbours_and_their_comments():
    after = rewrite.remove_service(TEXT, "dns")
    start, end = TEXT.index("# --- DNS ---"), TEXT.index("# --- Mail ---")
    assert after == TEXT[:start] + TEXT[end:]


def test_removing_the_first_service_keeps_what_is_said_about_the_file():
    text = '# l4lb on gw7\n[[services]]\nname = "web"\naddress = "10.1.0.100:80"\n'
    assert rewrite.remove_service(text, "web") == "# l4lb on gw7\n"


def test_removing_a_service_whose_parts_are_apart():
    text = (
        '[[services]]\nname = "web"\naddress = "10.1.0.100:80"\n\n'
        "[gateway]\nhold = 3\n\n"
        '[[services.backends]]\naddress = "10.2.0.11:80"\n'
    )
    assert rewrite.remove_service(text, "web") == "[gateway]\nhold = 3\n"


@pytest.mark.parametrize(
    ("service", "address", "expected"),
    [
        ("web", "10.2.0.11:80", ["+   weight = 7\n"]),
        (
            "web",
            "10.2.0.12:80",
            ["-   weight = 2   # twice as fast\n", "+   weight = 7   # twice as fast\n"],
        ),
        (
            "dns",
            "10.2.0.11:53",
            [
                '-     { address = "10.2.0.11:53" },  # first\n',
                '+     { address = "10.2.0.11:53", weight = 7 },  # first\n',
            ],
        ),
    ],
)
def test_a_weight_is_changed_in_its_place(service, address, expected):
    assert changed(TEXT, rewrite.set_weight(TEXT, service, at(address), 7)) == expected


def test_addresses_are_compared_as_addresses():
    text = (
        '[[services]]\nname = "six"\naddress = "[2001:db8::1]:80"\n'
        '[[services.backends]]\naddress = "[2001:DB8:0:1::1]:80"\n'
    )
    assert "weight = 3" in rewrite.set_weight(text, "six", at("[2001:db8:0:1::1]:80"), 3)


def test_a_service_is_added_with_all_its_fields():
    fields = {
        "name": "shop",
        "address": "10.1.0.100:443",
        "scheduler": "maglev",
        "health": {"check": "http", "path": '/a"b\\c', "status": ["200-299", 304], "interval": 1.5},
        "backends": [{"address": "10.2.0.11:443"}, {"address": "10.2.0.12:443", "weight": 0}],
    }
    after = rewrite.add_service(TEXT, fields)
    assert tomllib.loads(after)["services"][-1] == fields
    assert after.startswith(TEXT)


def test_a_service_is_added_to_an_empty_file():
    assert rewrite.add_service("", {"name": "web", "address": "10.1.0.100:80"}) == (
        '[[services]]\nname = "web"\naddress = "10.1.0.100:80"\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[gateway]\nhold = 3\n\n# Ask Ann first.\n", id="comments after a blank line"),
        pytest.param("# Ask Ann first.\n", id="comments alone"),
        pytest.param(Path(l4lb.service.__file__).with_name("l4lb.toml").read_text(), id="the first config"),
    ],
)
def test_the_first_service_stays_apart_from_the_comments_above_it(text):
    added = rewrite.add_service(text, {"name": "web", "address": "10.1.0.100:80"})
    assert added == text + '\n[[services]]\nname = "web"\naddress = "10.1.0.100:80"\n'
    assert rewrite.remove_service(added, "web") == text


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda: rewrite.add_service(TEXT, {"name": "a", "nat": None}),
            "cannot add the service: None cannot be written in TOML",
        ),
        (
            lambda: rewrite.remove_service("a = ", "web"),
            "the config is not valid TOML: Invalid value (at end of document)",
        ),
        (
            lambda: rewrite.remove_service("services = 3", "web"),
            "the config is not valid: 'services' is not a list of tables",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(edit, message):
    with pytest.raises(ConfigError) as caught:
        edit()
    assert caught.value.errors == [message]
