from l4lb.model import Key
from l4lb.schedulers.random import random_table
from tests.unit.schedulers.candidates import with_weights


def test_slots_are_in_proportion_to_weight_and_as_few_as_possible() -> None:
    table = random_table(with_weights(20, 10, 30))

    assert table.key is Key.RANDOM
    assert sorted(table.slots) == [0, 0, 1, 2, 2, 2]


def test_huge_weights_stay_within_the_limit() -> None:
    assert len(random_table(with_weights(60_001, 10_000)).slots) == 4096
