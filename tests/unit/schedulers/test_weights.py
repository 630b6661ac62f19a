from itertools import islice

import pytest

from l4lb.schedulers.weights import MAX_SLOTS, slot_counts, turns


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ([1], [1]),
        ([7], [1]),
        ([100, 100, 100], [1, 1, 1]),
        ([10, 20, 30], [1, 2, 3]),
        ([3, 5], [3, 5]),
        ([MAX_SLOTS - 1, 1], [MAX_SLOTS - 1, 1]),  # just within the limit: exact
    ],
)
def test_as_few_slots_as_the_weights_allow(weights: list[int], counts: list[int]) -> None:
    assert slot_counts(weights) == counts


def test_huge_weights_are_rounded_to_the_limit() -> None:
    # 4096 slots for 1/7 and 6/7 and a bit: 585.1 and 3510.9
    assert slot_counts([10_000, 60_001]) == [585, 3511]


def test_rounded_counts_are_reduced_again() -> None:
    assert slot_counts([30_001, 29_999]) == [1, 1]


def test_largest_remainder_goes_to_the_first_of_equals() -> None:
    # a third of 4096 each, near enough: 1365 and one seat left
    assert slot_counts([10_001, 10_001, 10_003]) == [1365, 1365, 1366]
    assert slot_counts([10_003, 10_001, 10_001]) == [1366, 1365, 1365]


def test_a_weight_that_is_not_zero_gets_a_slot_however_light() -> None:
    assert slot_counts([65_535, 1, 1]) == [MAX_SLOTS - 2, 1, 1]


def test_the_limit_grows_with_thousands_of_backends() -> None:
    counts = slot_counts([1] * 1500 + [3] * 1500 + [65_535])

    assert sum(counts) == 4 * 3001
    assert min(counts) == 1


def test_turns_of_equal_weights_go_round() -> None:
    assert list(islice(turns([4, 4, 4]), 7)) == [0, 1, 2, 0, 1, 2, 0]


def test_turns_are_spread_by_weight() -> None:
    # Times (k + 1/2) / w: a at 1/6 3/6 5/6, b at 1/2, which is a tie that goes to the lighter.
    assert list(islice(turns([3, 1]), 8)) == [0, 1, 0, 0, 0, 1, 0, 0]


def test_turns_of_two_do_not_depend_on_the_others() -> None:
    alone = list(islice(turns([5, 3]), 80))
    accompanied = [turn for turn in islice(turns([5, 3, 100, 1, 4]), 1000) if turn < 2]

    assert accompanied[:70] == alone[:70]
