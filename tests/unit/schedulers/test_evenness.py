"""Shares of the new connections, and what they cost."""

from itertools import pairwise

import pytest

from l4lb.schedulers.evenness import UNLIKE, shares, times


def test_what_is_usual_is_what_the_one_in_the_middle_has_had():
    assert shares([9.0, 10.0, 12.0], [1, 1, 1]) == pytest.approx([0.9, 1.0, 1.2])
    assert shares([10.0, 10.0, 10.0, 10.0, 0.5], [1] * 5) == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.05])


def test_each_has_its_share_for_its_weight():
    assert shares([40.0, 10.0, 22.0], [4, 1, 2]) == pytest.approx([1.0, 1.0, 1.1])


def test_without_connections_all_have_the_usual_share():
    assert shares([0.0, 0.0, 5.0], [1, 1, 1]) == [1.0, 1.0, 1.0]


def test_shares_that_are_nearly_the_same_are_the_same():
    assert len(set(shares([1000.0, 1003.0, 997.0], [1, 1, 1]))) == 1


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
