"""Shares of the new connections, and what they cost."""

from itertools import pairwise

import pytest

from l4lb.schedulers.evenness import LARGEST, UNLIKE, shares, times


def test_what_is_usual_is_what_the_one_in_the_middle_has_had():
    assert shares({"a": 9.0, "b": 10.0, "c": 12.0}) == pytest.approx({"a": 0.9, "b": 1.0, "c": 1.2})
    *others, slow = shares(dict(zip("abcde", (10.0, 10.0, 10.0, 10.0, 0.5), strict=True))).values()
    assert others == [1.0] * 4
    assert slow == pytest.approx(0.05)


@pytest.mark.parametrize("usual", [0.0, 5e-324, 4.94e-322, 1e-300])
def test_of_one_that_wakes_up_among_those_that_have_long_been_idle(usual):
    assert shares({"a": 10.0, "b": usual, "c": usual}) == {"a": LARGEST, "b": 1.0, "c": 1.0}


def test_without_backends_there_are_no_shares():
    assert shares({}) == {}


def test_shares_that_are_nearly_the_same_are_the_same():
    assert set(shares({"a": 1000.0, "b": 1003.0, "c": 997.0}).values()) == {1.0}


def test_who_has_had_less_is_cheaper_and_who_has_had_more_is_dearer():
    assert times(1.0) == 1.0
    assert times(0.95) == pytest.approx(0.85)
    assert times(1.05) == pytest.approx(1.15)
    grid = [times(0.9 + step / 100) for step in range(21)]
    assert grid == sorted(grid)


@pytest.mark.parametrize("share", [0.0, 0.05, 1 - UNLIKE, 1 + UNLIKE, 3.0, 1e6])
def test_who_is_not_alike_is_owed_nothing(share):
    assert times(share) == pytest.approx(1.0)


def test_a_backend_of_any_speed_has_one_share_at_which_it_stays():
    """Where all have the same price in flight, what one has is its speed over what it is charged."""
    charged = [share / 1000 * times(share / 1000) for share in range(1, 5000)]
    assert all(less < more for less, more in pairwise(charged))
