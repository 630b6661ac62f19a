"""One screen, drawn without a terminal."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from l4lb.cli.top.figures import Figures, Group
from l4lb.cli.top.frame import Size, frame, packed
from l4lb.cli.top.view import View
from tests.unit.cli.top.overview import two_looks

SCREEN = """\
l4lb on gw, up for 1d2h | raw | 1k packets/s | 12k bit/s
13 drops/s (no backend 10, ttl exceeded 2) | 1200 established | 3 half-open | probes 0.056%
IPv6 forwarding is off
BACKEND               STATE   SHARE NEW/S REQ/S   P50   P99 WAIT ACTIVE   IN  OUT REASON
web 10.1.0.100:80/tcp 3/3 up           15     4  50ms  50ms   12     36   4k   8k
> 10.2.0.12:80        up        67%    10     4  50ms  50ms    9     12    0   8k
  10.2.0.11:80        up        33%     5     0     -     -    0     12   4k    0
  10.2.0.13:80        up         0%     0     0     -     -    3     12    0    0
dns 10.1.0.100:53/udp 0/1 up            0     0     -     -    3     12    0    0
  [2001:db8::53]:53   down        -     0     0     -     -    3     12    0    0 connection refu…
?: keys | every 1s | by NEW/S, falling
"""

SIZES = [(1, 1), (10, 3), (24, 6), (40, 10), (80, 24), (100, 30), (200, 60)]


def drawn(figures, view=None, size=(100, 30), trouble=""):
    """The lines as they are on the screen."""
    columns, lines = size
    console = Console(file=StringIO(), width=columns, height=lines, color_system=None, markup=False)
    console.print(frame(figures, view or View(), Size(columns, lines), trouble), end="")
    return console.file.getvalue().splitlines()


def many(number=100):
    web = two_looks().groups[0]
    rows = tuple(
        replace(web.backends[0], target=("web", f"10.2.{last // 250}.{last % 250 + 1}:80"))
        for last in range(number)
    )
    return replace(two_looks(), groups=(Group(web.title, web.total, rows), two_looks().groups[1]))


def test_a_screen():
    lines = [line.rstrip() for line in drawn(two_looks(), View(sort="new"), (98, 11))]
    assert lines == SCREEN.splitlines()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("figures", [two_looks(), many(), Figures(("l4lb on gw",))])
@pytest.mark.parametrize("view", [View(), View(help=True), View(draining=("web", "10.2.0.11:80"))])
def test_nothing_wraps_and_the_screen_is_full(size, figures, view):
    lines = drawn(figures, view, size)
    assert max(map(cell_len, lines)) <= size[0]
    if size[1] >= 10:
        assert len(lines) == size[1]


def test_wide_characters_do_not_wrap_either():
    figures = replace(two_looks(), warnings=("\u6771" * 80,))
    assert max(map(cell_len, drawn(figures, size=(40, 12)))) <= 40


@pytest.mark.parametrize("place", [0, 3, 50, 99])
def test_a_small_screen_scrolls_to_the_selection(place):
    figures = many()
    selected = figures.groups[0].backends[place].target
    lines = drawn(figures, View(selected=selected), (40, 10))
    assert next(line for line in lines if line.startswith("> ")).startswith(f"> {selected[1]} ")
    assert any(line.startswith("web 10.1.0.1") for line in lines)  # whose backends these are


def test_only_one_service():
    lines = drawn(two_looks(), View(service="dns"))
    assert any("[2001:db8::53]:53" in line for line in lines)
    assert not any("10.2.0.11" in line for line in lines)
    assert any("No services." in line for line in drawn(two_looks(), View(service="gone")))


def test_what_servers_say_does_not_reach_the_terminal_as_it_is():
    evil = "\x1b[2J[red]gone[/red]\r\n:smile:"
    web = two_looks().groups[0]
    rows = tuple(replace(row, note=evil, state="up\x1b[2J") for row in web.backends)
    figures = Figures((f"l4lb {evil}",), (evil,), (Group(evil, web.total, rows),))
    for size in SIZES:
        text = "\n".join(drawn(figures, View().said(evil), size, trouble=evil))
        assert "\x1b" not in text
        assert "\r" not in text
    assert "?[2J[red]gone[/red]??:smile:" in text


def test_a_reason_that_does_not_fit_its_column_is_told_of_the_one_selected():
    reason = "HTTP 503, expected 200-399, and many more words than there is room for"
    web = two_looks().groups[0]
    rows = (replace(web.backends[0], note=reason), *web.backends[1:])
    figures = replace(two_looks(), groups=(Group(web.title, web.total, rows),))
    assert drawn(figures, size=(100, 20))[-2].rstrip() == reason
    assert drawn(figures, View(selected=rows[1].target), (100, 20))[-2].strip() == ""
    assert drawn(figures, size=(200, 20))[-2].strip() == ""


def test_trouble_is_one_line():
    lines = drawn(two_looks(), trouble="for 3s: no daemon answers at /run/l4lb/l4lb.sock", size=(40, 10))
    assert lines[3].startswith("for 3s: no daemon answers")
    assert any(line.startswith("> 10.2.0.11:80") for line in lines)


def test_more_warnings_than_there_is_room_for():
    figures = replace(two_looks(), warnings=tuple(f"warning {number}" for number in range(9)))
    assert "(and 8 more) warning 0" in [line.rstrip() for line in drawn(figures, size=(80, 10))]
    lines = [line.rstrip() for line in drawn(figures, size=(80, 18))]
    assert lines[3:6] == ["warning 0", "warning 1", "(and 6 more) warning 2"]


def test_packed():
    assert packed(["aaa", "bbb", "ccc"], 9, 4) == ["aaa | bbb", "ccc"]
    assert packed(["aaa", "bbb", "ccc"], 9, 1) == ["aaa | bbb"]
    assert packed(["a" * 20, "b"], 9, 4) == ["a" * 20, "b"]
    assert packed([], 9, 4) == []
