"""The schedule by a manual clock."""

from random import Random

import pytest

from l4lb.health.schedule import JITTER, Schedule


class Fixed(Random):
    """Draws the same part of every range."""

    def __init__(self, part: float) -> None:
        super().__init__()
        self.part = part

    def random(self) -> float:
        return self.part

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.part


def test_nothing_to_check_nothing_to_wait_for():
    schedule: Schedule[str] = Schedule(Random(1), 4)
    assert schedule.start_due(100.0) == []
    assert schedule.next_start() is None
    assert schedule.lateness(100.0) == 0


def test_at_least_one_at_once():
    with pytest.raises(ValueError, match="at least 1 check"):
        Schedule(Random(1), 0)


def test_first_checks_spread_over_one_interval():
    schedule: Schedule[int] = Schedule(Random(1), 10_000)
    for key in range(1000):
        schedule.add(key, 2.0, now=50.0)
    per_tenth = [len(schedule.start_due(50.0 + 0.2 * (tenth + 1))) for tenth in range(10)]
    assert sum(per_tenth) == 1000
    assert all(60 <= started <= 140 for started in per_tenth)  # 100 +- 4 standard deviations


@pytest.mark.parametrize(("part", "gap"), [(0.0, 1 - JITTER), (0.5, 1.0), (1.0, 1 + JITTER)])
def test_interval_is_from_start_to_start_with_jitter(part: float, gap: float):
    schedule: Schedule[str] = Schedule(Fixed(part), 1)
    schedule.add("a", 10.0, now=0.0)
    first = 10.0 * part
    assert schedule.next_start() == first
    assert schedule.start_due(first) == ["a"]
    schedule.finish("a", first + 0.7)
    assert schedule.next_start() == pytest.approx(first + 10.0 * gap)


def test_check_longer_than_its_interval_skips_and_does_not_pile_up():
    schedule: Schedule[str] = Schedule(Fixed(0.5), 5)
    schedule.add("a", 2.0, now=0.0)
    assert schedule.start_due(1.0) == ["a"]
    assert schedule.start_due(50.0) == []
    schedule.finish("a", 50.0)
    assert schedule.start_due(50.0) == ["a"]
    schedule.finish("a", 50.1)
    assert schedule.start_due(50.1) == []
    assert schedule.next_start() == 52.0


def test_bound_holds_and_the_rest_wait_in_order_of_due_time():
    schedule: Schedule[str] = Schedule(Fixed(0.5), 2)
    for key, interval in [("c", 6.0), ("a", 2.0), ("d", 8.0), ("b", 4.0)]:
        schedule.add(key, interval, now=0.0)
    assert schedule.start_due(10.0) == ["a", "b"]
    assert schedule.next_start() is None
    assert schedule.start_due(11.0) == []
    schedule.finish("b", 11.0)  # next due at 14: behind c (3) and d (4)
    assert schedule.start_due(11.0) == ["c"]
    schedule.finish("a", 11.0)  # next due at 12
    assert schedule.start_due(20.0) == ["d"]
    schedule.finish("c", 20.0)
    assert schedule.start_due(20.0) == ["a"]


def test_removed_key_is_not_started():
    schedule: Schedule[str] = Schedule(Fixed(0.5), 2)
    schedule.add("a", 2.0, now=0.0)
    schedule.add("b", 4.0, now=0.0)
    schedule.remove("a")
    assert schedule.next_start() == 2.0
    assert schedule.start_due(100.0) == ["b"]


def test_key_removed_while_under_way_holds_its_place_until_it_is_over():
    schedule: Schedule[str] = Schedule(Fixed(0.5), 1)
    schedule.add("a", 2.0, now=0.0)
    assert schedule.start_due(1.0) == ["a"]
    schedule.remove("a")
    schedule.add("b", 2.0, now=1.0)
    assert schedule.start_due(5.0) == []
    schedule.finish("a", 5.0)
    assert schedule.start_due(5.0) == ["b"]


def test_lateness_is_in_intervals_of_the_check_that_waits():
    schedule: Schedule[str] = Schedule(Fixed(0.5), 1)
    schedule.add("a", 2.0, now=0.0)
    schedule.add("b", 4.0, now=0.0)
    assert schedule.start_due(1.0) == ["a"]
    assert schedule.lateness(2.0) == 0
    assert schedule.lateness(8.0) == 1.5
