"""What keys make of the view."""

from __future__ import annotations

import pytest

from l4lb.cli.top import LONGEST, SHORTEST
from l4lb.cli.top.columns import COLUMNS
from l4lb.cli.top.view import HELP, Change, Quit, View, bottom, pressed, selection

ORDER = [("web", f"10.2.0.{last}:80") for last in range(11, 31)] + [("dns", "10.2.0.11:53")]


def after(*keys, view=None, order=ORDER):
    """The view, and what was asked for by the last key."""
    view, asked = view or View(), None
    for key in keys:
        view, asked = pressed(view, key, order)
    return view, asked


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ((), 0),
        (("down",), 1),
        (("j", "j", "k"), 1),
        (("up",), 0),
        (("page down",), 10),
        (("page down", "page down", "page down", "page up"), 10),
        (("end",), 20),
        (("end", "j"), 20),
        (("end", "home", "down"), 1),
    ],
)
def test_selecting(keys, place):
    assert selection(after(*keys)[0], ORDER) == ORDER[place]


def test_the_selection_stays_with_its_backend_when_the_order_changes():
    view, _ = after("down")
    assert selection(view, ORDER[::-1]) == ORDER[1]
    assert selection(view, ORDER[5:]) == ORDER[5]  # it is gone
    assert selection(view, []) is None


def test_draining_is_asked_first():
    view, asked = after("down", "d")
    assert (view.draining, asked) == (ORDER[1], None)
    assert bottom(view) == ("drain 10.2.0.12:80 of web? y/n",)
    view, asked = after("y", view=view)
    assert (view.draining, asked) == (None, Change(ORDER[1], "drain"))


def test_what_is_drained_is_what_was_asked_about_and_not_who_has_taken_its_place():
    view, _ = after("d")
    assert after("y", view=view, order=ORDER[::-1])[1] == Change(ORDER[0], "drain")


@pytest.mark.parametrize("key", ["n", "q", "escape", "d", " "])
def test_anything_but_y_is_no(key):
    view, asked = after("d", key)
    assert (view.draining, asked, view.message) == (None, None, "not drained")


def test_enabling_and_quitting():
    assert after("down", "e")[1] == Change(ORDER[1], "enable")
    assert after("q")[1] == Quit()


@pytest.mark.parametrize("key", ["d", "e", "f", "up", "end"])
def test_without_backends_there_is_nothing_to_do(key):
    assert after(key, order=[]) == (View(), None)


def test_sorting_goes_through_all_columns_and_round():
    views = [after(*"s" * times)[0].sort for times in range(len(COLUMNS) + 1)]
    assert views == [*(column.name for column in COLUMNS), "backend"]
    assert after("r")[0].reverse
    assert not after("r", "s")[0].reverse


def test_one_service_and_all_again():
    view, _ = after("end", "f")
    assert (view.service, view.selected) == ("dns", ORDER[-1])
    assert after("f", view=view)[0].service is None


def test_intervals():
    assert [after(*"+" * times)[0].interval for times in range(7)] == [1, 2, 5, 10, 30, 60, LONGEST]
    assert [after(*"-" * times)[0].interval for times in range(4)] == [1, 0.5, 0.2, SHORTEST]
    assert after("+", view=View(interval=3.0))[0].interval == 5
    assert after("-", view=View(interval=3.0))[0].interval == 2


def test_the_last_line():
    assert bottom(View()) == ("?: keys", "every 1s", "by BACKEND")
    assert bottom(View(reverse=True))[2] == "by BACKEND, backwards"
    assert bottom(View(sort="new"))[2] == "by NEW/S, falling"
    assert bottom(View(sort="new", reverse=True))[2] == "by NEW/S, rising"
    assert bottom(after(" ")[0])[1] == "paused"
    assert bottom(after("?")[0]) == HELP
    assert after("?", "j")[0].help is False


def test_a_message_stays_until_the_next_key():
    view = View().said("web: draining 10.2.0.11:80, 3 connections left")
    assert bottom(view) == ("web: draining 10.2.0.11:80, 3 connections left",)
    assert after("j", view=view)[0].message == ""
