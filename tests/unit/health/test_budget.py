"""The token bucket of all probes."""

from dataclasses import replace
from math import inf

import pytest

from l4lb.health.budget import Budget, for_probes
from l4lb.model import Probes

LIMITS = Probes(share=0.001, floor=1.0, ceiling=100.0, burst=24.0)


def spent(budget, now):
    """All that can be spent, one packet at a time."""
    count = 0
    while budget.take(1, now):
        count += 1
    return count


def test_it_starts_empty_and_fills_at_the_floor():
    budget = Budget(LIMITS, 100.0)
    assert not budget.take(1, 100.0)
    assert not budget.take(3, 102.9)
    assert budget.take(3, 103.0)
    assert spent(budget, 103.0) == 0


def test_an_idle_gateway_saves_up_to_a_burst():
    budget = Budget(LIMITS, 0.0)
    assert spent(budget, 1e9) == 24


def test_what_was_forwarded_is_spent_in_the_time_after():
    budget = Budget(LIMITS, 0.0)
    budget.look(0, 0.0)
    spent(budget, 0.0)
    budget.look(20_000, 1.0)  # worth 20 packets
    assert spent(budget, 1.0) == 1, "of the floor until now"
    assert spent(budget, 1.5) == 10
    assert spent(budget, 2.0) == 10
    assert spent(budget, 3.0) == 1, "and the floor again when nobody has looked since"


def test_the_floor_is_not_added_to_the_share():
    budget = Budget(LIMITS, 0.0)
    budget.look(0, 0.0)
    budget.look(500, 1.0)  # worth half a packet
    spent(budget, 1.0)
    assert spent(budget, 2.0) == 1


def test_the_ceiling_holds_however_much_is_forwarded():
    budget = Budget(LIMITS, 0.0)
    budget.look(0, 0.0)
    budget.look(10**9, 1.0)
    assert spent(budget, 1.0) == 1
    assert sum(spent(budget, 1.0 + step / 10) for step in range(1, 11)) == 100


def test_a_count_that_goes_down_has_begun_anew():
    budget = Budget(LIMITS, 0.0)
    budget.look(10**6, 0.0)
    budget.look(10_000, 1.0)  # a new datapath has forwarded so many since
    spent(budget, 1.0)
    assert spent(budget, 2.0) == 10


@pytest.mark.parametrize("again", [0.0, -5.0])
def test_a_second_look_at_the_same_moment_loses_nothing(again):
    budget = Budget(LIMITS, 0.0)
    budget.look(0, 0.0)
    budget.look(10_000, again)
    budget.look(10_000, 1.0)
    spent(budget, 1.0)
    assert spent(budget, 2.0) == 10


def test_a_clock_that_goes_back_earns_nothing_twice():
    budget = Budget(LIMITS, 0.0)
    assert spent(budget, 10.0) == 10
    assert spent(budget, 5.0) == 0
    assert spent(budget, 10.0) == 0


def test_what_a_probe_caused_beyond_its_cost_is_paid_later():
    budget = Budget(LIMITS, 0.0)
    assert budget.take(3, 3.0)
    budget.owe(5)
    assert not budget.take(1, 8.0)
    assert budget.take(1, 9.0)


def test_a_debt_is_paid_within_a_minute_however_large_it_is():
    budget = Budget(LIMITS, 0.0)
    for _ in range(3):
        budget.owe(30_000)
    assert budget.wait(1, 0.0) == 61.0
    assert budget.take(1, 61.0)
    budget.change(Probes(floor=10.0), 61.0)
    budget.owe(30_000)
    budget.change(Probes(floor=0.1), 61.0)
    assert budget.wait(1, 61.0) == pytest.approx(250.0), "of a burst, if that is more"


def test_waits_are_as_long_as_they_must_be():
    budget = Budget(LIMITS, 0.0)
    assert budget.wait(3, 0.0) == 3.0
    budget.look(0, 0.0)
    budget.look(10_000, 1.0)  # 10 a second until 2.0, and 1 is there
    assert budget.wait(1, 1.0) == 0.0
    assert budget.wait(6, 1.0) == pytest.approx(0.5)
    assert budget.wait(14, 1.0) == pytest.approx(1.0 + 3.0)
    assert budget.take(6, 1.0 + budget.wait(6, 1.0)), "and not longer"
    assert budget.wait(25, 1.0) == inf, "more than it ever holds"


def test_with_neither_floor_nor_share_there_is_nothing_to_wait_for():
    budget = Budget(Probes(share=0.0, floor=0.0), 0.0)
    budget.look(0, 0.0)
    budget.look(10**9, 1.0)
    assert budget.wait(1, 1.0) == inf
    assert not budget.take(1, 1e9)


def test_other_limits_hold_at_once():
    budget = Budget(LIMITS, 0.0)
    budget.look(0, 0.0)
    budget.look(10**6, 20.0)
    budget.change(Probes(floor=0.5, ceiling=2.0, burst=12.0), 20.0)
    assert spent(budget, 20.0) == 12
    assert spent(budget, 21.0) == 2


def test_who_comes_first_gets_many_beside_those_who_want_few():
    """An agent's line takes 8 packets, and SYN probes take 3 as soon as there are 3."""
    budget, lines, probes = Budget(LIMITS, 0.0), 0, 0
    for step in range(1_000):
        now = step / 10
        if lines < now // 20:
            lines += budget.take_first(8, now)
        while budget.take(3, now):
            probes += 1
    assert lines == 4
    assert 3 * probes + 8 * lines <= 100
    assert probes >= 20


@pytest.mark.parametrize("burst", [12.0, 24.0])
@pytest.mark.parametrize("question", [2, 8])
@pytest.mark.parametrize("probe", [3, 12])
@pytest.mark.parametrize("overrun", [0, 16])
def test_who_comes_first_leaves_the_floor_to_the_others(burst, question, probe, overrun):
    """Where agents want all there is; also if each is late with what it costs."""
    limits = Probes(floor=10.0, ceiling=100.0, burst=burst)
    budget = Budget(replace(limits, floor=100.0), 0.0, for_probes(limits))
    first, others = 0, 0
    for step in range(1, 10_001):
        now = step / 100
        while budget.take_first(question, now):
            budget.owe_first(overrun)
            first += question + overrun
        while budget.take(probe, now):
            others += probe
    assert others >= 0.95 * 10 * 100
    assert first >= 0.9 * 90 * 100
    assert first + others <= 100 * 100 + burst + overrun


def test_where_the_floor_is_the_ceiling_agents_have_half_of_it():
    assert for_probes(Probes(floor=10.0, ceiling=10.0)) == 5.0


def test_what_is_kept_for_who_comes_first_is_waited_for():
    budget = Budget(LIMITS, 0.0)
    assert not budget.take_first(8, 3.0)
    assert not budget.take(3, 5.0)
    assert budget.wait(3, 5.0) == 6.0
    budget.release()
    assert budget.take(3, 5.0)
