"""Columns: how they sort and which of them fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from l4lb.cli.top.columns import COLUMNS, NAMED, cell, layout, ordered
from l4lb.cli.top.figures import Group
from tests.unit.cli.top.overview import WEB, two_looks


def order(sort, *, reverse=False, groups=None):
    found = ordered(groups or two_looks().groups, sort, reverse=reverse)
    return [row.target[1] for row in found[0].backends]


def test_figures_are_sorted_largest_first_and_texts_by_the_alphabet():
    first, second, third = WEB
    assert order("new") == [second, first, third]
    assert order("new", reverse=True) == [third, first, second]
    assert order("wait") == [second, third, first]
    assert order("backend", reverse=True) == [third, second, first]


@pytest.mark.parametrize("reverse", [False, True])
def test_what_was_not_measured_comes_last(reverse):
    assert order("p99", reverse=reverse) == [WEB[1], WEB[0], WEB[2]]


def test_addresses_are_sorted_by_number():
    web = two_looks().groups[0]
    addresses = ("10.2.0.9:80", "10.2.0.10:8080", "10.2.0.10:80", "[2001:db8::1]:80")
    rows = [replace(web.backends[0], target=("web", address)) for address in reversed(addresses)]
    assert order("backend", groups=[Group("web", web.total, tuple(rows))]) == [
        "10.2.0.9:80",
        "10.2.0.10:80",
        "10.2.0.10:8080",
        "[2001:db8::1]:80",
    ]


def test_who_needs_attention_comes_first():
    web = two_looks().groups[0]
    states = ("up", "down", "drain", "unknown")
    rows = tuple(replace(web.backends[0], state=state) for state in states)
    (found,) = ordered([Group("web", web.total, rows)], "state", reverse=False)
    assert [row.state for row in found.backends] == ["down", "unknown", "drain", "up"]


def test_services_stay_where_they_are():
    assert [group.total.target[0] for group in ordered(two_looks().groups, "wait", reverse=True)] == [
        "web",
        "dns",
    ]


def test_cells():
    web = two_looks().groups[0]
    cells = {column.name: cell(column, web.backends[1]) for column in COLUMNS}
    assert cells == {
        "backend": "10.2.0.12:80",
        "state": "up",
        "weight": "1",
        "for": "1h02m",
        "share": "67%",
        "new": "10",
        "requests": "4",
        "p50": "50ms",
        "p99": "50ms",
        "wait": "9",
        "active": "12",
        "in": "0",
        "out": "8k",
    }
    assert cell(NAMED["p99"], web.backends[0]) == "-"
    assert cell(NAMED["weight"], web.total) == cell(NAMED["share"], web.total) == ""


def names(width, sort="backend", groups=None):
    return {column.name for column, _ in layout(groups or two_looks().groups, sort, width).columns}


def test_the_less_important_columns_go_first():
    assert names(200) == set(NAMED)
    assert names(40) == {"backend", "state", "new", "p99"}
    groups = two_looks().groups[:1]
    shrinking = [names(width, groups=groups) for width in range(200, 24, -1)]
    assert all(narrower <= wider for wider, narrower in pairwise(shrinking))
    assert names(10) == {"backend"}


def test_the_column_that_is_sorted_by_is_shown():
    assert "for" not in names(40)
    assert "for" in names(40, sort="for")


@pytest.mark.parametrize("noted", [True, False])
def test_a_layout_is_no_wider_than_the_terminal(noted):
    groups = two_looks().groups[: 2 if noted else 1]
    for width in range(8, 200):
        fit = layout(groups, "backend", width)
        widths = [needed for _, needed in fit.columns] + [fit.note] * bool(fit.note)
        assert sum(widths) + fit.gap * (len(widths) - 1) <= width
        assert bool(fit.note) <= noted


def test_reasons_are_more_than_weights_if_there_are_any():
    with_reasons, without = two_looks().groups, two_looks().groups[:1]
    width = next(width for width in range(40, 200) if layout(with_reasons, "backend", width).note)
    assert "weight" not in names(width, groups=with_reasons)
    assert "weight" in names(width, groups=without)
