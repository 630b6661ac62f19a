from dataclasses import replace
from random import Random
from statistics import median

import pytest

from l4lb.model import WHOLE, Costs, Endpoint
from l4lb.schedulers import adaptive
from l4lb.schedulers.adaptive import Pool, costs, observe
from l4lb.schedulers.estimate import PRICES
from l4lb.schedulers.least_connection import UNIT
from l4lb.schedulers.measured import Measured
from tests.unit.schedulers.candidates import with_weights

LOOK = 0.1
WELL = Measured(opened=3, answers=3, answer_time=0.3)
SLOW = Measured(opened=1, answers=1, answer_time=1.0)
BACKENDS = with_weights(1, 1, 1)


def had(opened):
    """What a look counts of one that was given so many connections, all answered as usual."""
    return Measured(opened=opened, answers=3, answer_time=0.3)


def after(seconds, looks, pool=None, start=0.0, candidates=BACKENDS):
    """The pool after that time in which each look finds the same, one Measured a backend."""
    pool = pool or Pool()
    for look in range(round(seconds / LOOK)):
        seen = {it.address: measured for it, measured in zip(candidates, looks, strict=False)}
        pool = observe(pool, seen, start + look * LOOK)
    return pool


def prices(pool, now, candidates=BACKENDS):
    return [cost / UNIT for _, cost in costs(candidates, pool, now).costs]


def test_without_measurements_it_is_least_connection():
    selection = adaptive.SCHEDULER.compile(with_weights(4, 1, 2))
    least = min(cost for _, cost in selection.costs)
    assert [cost / least for _, cost in selection.costs] == [1, 4, 2]
    assert (selection.idle, selection.hot, selection.candidates) == (WHOLE, frozenset(), 0)


def test_equals_have_equal_costs():
    assert prices(after(10, [WELL] * 3), 10) == [1, 1, 1]


def test_a_difference_that_may_be_chance_is_none():
    pool = after(10, [WELL, Measured(answers=3, answer_time=0.36), Measured(answers=2, answer_time=0.17)])
    assert prices(pool, 10) == [1, 1, 1]


def test_weights_divide_the_cost():
    weighted = with_weights(1, 2, 4)
    assert prices(after(10, [had(3), had(6), had(12)], candidates=weighted), 10, weighted) == [4, 2, 1]


def test_a_slow_one_is_dear_and_no_dearer_than_the_bound():
    slow = prices(after(10, [WELL, WELL, SLOW]), 10)
    assert slow[:2] == [1, 1]
    assert 5 < slow[2] <= max(PRICES)


def test_one_that_takes_no_connections_stays_dear_while_that_lasts():
    """SYNs that are sent again are all that is seen of it."""
    silent = prices(after(20, [WELL, WELL, Measured(silences=2)], after(10, [WELL] * 3)), 20)
    assert silent[:2] == [1, 1]
    assert silent[2] > 5


def test_who_was_given_a_little_less_than_others_is_cheaper_until_it_has_had_it():
    pool = after(20, [had(20), had(20), had(19)])
    fair, same, less = prices(pool, 20)
    assert fair == same == 1
    assert less == pytest.approx(0.85, abs=0.01)
    back = next(
        second
        for second in range(1, 10)
        if prices(after(second, [had(20), had(20), had(23)], pool, start=20), 20 + second)[2] >= 1
    )
    assert 1 < back < 5


def test_a_share_is_for_a_weight():
    weighted = with_weights(1, 2, 4)
    uneven = after(20, [had(5), had(10), had(19)], candidates=weighted)
    assert prices(uneven, 20, weighted)[2] == pytest.approx(0.85, abs=0.01)


def test_one_that_is_slow_is_no_cheaper_for_what_it_misses():
    """Nor are the others dearer, which have its part."""
    slow = Measured(opened=1, answers=1, answer_time=1.0)
    four = with_weights(1, 1, 1, 1)
    *others, missing = prices(after(20, [had(24), had(24), had(24), slow], candidates=four), 20, four)
    assert others == [1, 1, 1]
    assert missing > 5


def test_what_one_that_begins_slowly_has_missed_is_not_owed_to_it_nor_forgotten_of_others():
    uneven = [had(20), had(20), had(19)]
    pool = after(20, uneven, candidates=BACKENDS)
    four = with_weights(1, 1, 1, 1)
    later = pool
    for look in range(300):
        now = 20 + look * LOOK
        later = observe(
            later,
            {
                it.address: seen
                for it, seen in zip(four, [*uneven, had(20 if look > 29 else 4)], strict=True)
            },
            now,
        )
        if now > 23 + LOOK:
            assert prices(later, now, four) == pytest.approx([1, 1, 0.85, 1], abs=0.04)


def test_one_that_wakes_up_when_all_have_long_been_idle_has_its_price():
    """What fades is never 0: by the others' part of it, a quotient was more than a number can be."""
    pool, now = after(20, [WELL] * 3), 20.0
    for _ in range(49):
        now += 150
        pool = observe(pool, {it.address: Measured() for it in BACKENDS}, now)
    first, *others = (it.address for it in BACKENDS)
    pool = observe(pool, {first: WELL, **dict.fromkeys(others, Measured())}, now)
    assert 0 < pool.backends[others[0]].opened < 1e-308
    assert adaptive.shares(BACKENDS, pool, now) == {first: 2, **dict.fromkeys(others, 1)}
    assert max(prices(pool, now)) < 2


def test_of_fewer_connections_than_backends_there_are_no_shares():
    pool = after(20, [WELL] * 3)
    assert len(adaptive.shares(BACKENDS, pool, 20)) == 3
    assert adaptive.shares(BACKENDS, pool, 25) == {}, "nothing was asked"
    busy = observe(pool, {it.address: Measured(outstanding=1, waiting=60.0) for it in BACKENDS}, 80)
    assert adaptive.shares(BACKENDS, busy, 80) == {}


def test_where_connections_are_kept_their_number_decides_and_not_what_each_was_given():
    begun = [Measured(opened=opened, answers=3000, answer_time=300.0) for opened in (20, 20, 19)]
    assert prices(after(20, begun), 20) == pytest.approx([1, 1, 1], abs=0.01)


def test_if_all_are_hot_only_what_is_in_flight_counts():
    hot = [replace(had(opened), hot=True) for opened in (20, 20, 19)]
    assert prices(after(20, hot), 20) == [1, 1, 1]


def test_of_two_the_fast_one_is_the_usual():
    two = with_weights(1, 1)
    fast, slow = prices(after(10, [WELL, SLOW], candidates=two), 10, two)
    assert fast == 1
    assert slow > 5


@pytest.mark.parametrize(("count", "slow"), [(3, 1), (4, 2), (5, 3), (6, 4), (7, 4), (9, 6)])
def test_of_several_up_to_two_thirds_may_be_slow(count, slow):
    several = with_weights(*[1] * count)
    looks = [SLOW] * slow + [WELL] * (count - slow)
    found = prices(after(10, looks, candidates=several), 10, several)
    assert min(found[:slow]) > 5
    assert found[slow:] == [1] * (count - slow)


def test_who_lies_about_its_speed_gains_nothing():
    liar = Measured(answers=1000, answer_time=1e-9)
    assert prices(after(10, [WELL, WELL, liar]), 10) == [1, 1, 1]


def test_one_that_is_not_asked_is_as_good_as_the_others_within_ten_seconds():
    pool = after(5, [WELL, WELL, SLOW])
    assert prices(pool, 5)[2] > 5
    pool = after(10, [WELL, WELL, Measured()], pool, start=5)
    assert prices(pool, 15) == [1, 1, 1]


def test_one_that_recovers_costs_the_usual_within_seconds_of_its_first_good_answers():
    pool = after(2, [WELL] * 3, after(10, [WELL, WELL, SLOW]), start=10)
    assert prices(pool, 12)[2] < 1.2


def test_a_new_one_begins_slowly():
    pool = after(10, [WELL, WELL])
    pool = after(LOOK, [WELL] * 3, pool, start=10)
    growing = []
    for second in range(5):
        pool = after(1, [WELL] * 3, pool, start=10 + second)
        growing.append(prices(pool, 11 + second)[2])
    assert growing == sorted(growing, reverse=True)
    assert growing[0] > 2
    assert growing[-1] == pytest.approx(1, abs=0.04)
    owed = prices(after(20, [WELL] * 3, pool, start=15), 35)
    assert owed == pytest.approx([1, 1, 1], abs=0.04), "nothing is owed for what it missed"


def test_one_that_was_away_is_new():
    pool = after(1, [WELL, WELL], after(10, [WELL] * 3), start=10)
    assert set(pool.backends) == {it.address for it in BACKENDS[:2]}
    assert prices(pool, 11)[2] == 10


def test_a_backend_over_its_limits_is_hot_and_if_all_are_only_weights_count():
    hot = Measured(opened=1, answers=1, answer_time=1.0, outstanding=1, hot=True)
    assert costs(BACKENDS, after(10, [WELL, hot, WELL]), 10).hot == {1}
    weighted = with_weights(1, 2, 4)
    everywhere = costs(weighted, after(10, [hot] * 3, candidates=weighted), 10)
    assert everywhere == Costs(((0, 4 * UNIT), (1, 2 * UNIT), (2, UNIT)), idle=0)


def test_one_that_lets_connections_fail_is_hot_until_it_is_tried_again():
    pool = after(LOOK, [WELL, WELL, Measured(failures=5)], after(5, [WELL] * 3), start=5)
    assert costs(BACKENDS, pool, 5.1).hot == {2}
    pool = after(1.1, [WELL, WELL, Measured()], pool, start=5.1)
    assert costs(BACKENDS, pool, 6.2).hot == frozenset()


def test_connections_kept_for_many_requests_are_counted_while_idle():
    kept = Measured(answers=3, answer_time=0.3, outstanding=3, idle=9)
    opened = Measured(opened=1, answers=3, answer_time=0.3, outstanding=3, idle=9)
    pool = after(60, [kept] * 3, after(LOOK, [opened] * 3), start=LOOK)
    assert costs(BACKENDS, pool, 61).idle > 0.9 * WHOLE


def kept(answers, each):
    """What a look counts of connections with hundreds of requests."""
    return Measured(answers=answers, answer_time=answers * each, outstanding=3, idle=9)


def after_a_minute_of_kept_connections():
    opened = Measured(opened=1, answers=3, answer_time=0.3, outstanding=3, idle=9)
    return after(60, [kept(3, 0.1)] * 3, after(LOOK, [opened] * 3), start=LOOK), 60 + LOOK


def test_a_connection_that_is_kept_is_not_placed_by_a_burst_that_it_outlives():
    pool, now = after_a_minute_of_kept_connections()
    pool = after(2, [kept(3, 0.1), kept(3, 0.1), kept(1, 1.0)], pool, start=now)
    assert pool.backends[BACKENDS[2].address].price(now + 2) > 5
    assert prices(pool, now + 2) == [1, 1, 1]


def test_but_by_what_lasts_and_no_longer_than_it_does():
    pool, now = after_a_minute_of_kept_connections()
    pool = after(10, [kept(3, 0.1), kept(3, 0.1), kept(1, 1.0)], pool, start=now)
    assert prices(pool, now + 10)[2] > 3
    pool = after(10, [kept(3, 0.1)] * 3, pool, start=now + 10)
    assert prices(pool, now + 20) == [1, 1, 1]


def test_nor_are_connections_kept_with_one_that_lets_them_fail():
    pool, now = after_a_minute_of_kept_connections()
    failing = Measured(failures=1, outstanding=3, idle=9)
    pool = after(1, [kept(3, 0.1), kept(3, 0.1), failing], pool, start=now)
    assert prices(pool, now + 1)[2] > 3


def test_how_long_requests_have_waited_at_the_first_look_is_nobody_s_doing():
    """After a restart of the daemon: what is asked and never answered, as a long poll, made all usual."""
    waiting = [
        Measured(opened=number, answers=number, answer_time=each, outstanding=20, waiting=72_000.0)
        for number, each in ((3, 0.3), (3, 0.3), (1, 3.0))
    ]
    pool = after(3, waiting)
    assert pool.usual is not None
    assert pool.usual.response_time < 1
    assert prices(pool, 3)[2] > 3


def test_one_without_traffic_is_not_shunned_and_one_that_failed_not_for_ever():
    pool = after(60, [Measured()] * 3)
    assert not any(adaptive.shuns(pool, it.address, 60) for it in BACKENDS)
    refusing = BACKENDS[2].address
    pool = after(LOOK, [WELL, WELL, Measured(failures=5)], pool, start=60)
    assert adaptive.shuns(pool, refusing, 60.1)
    pool = after(10, [WELL, WELL, Measured()], pool, start=60 + LOOK)
    assert not adaptive.shuns(pool, refusing, 70.1)
    assert not adaptive.fails(pool, refusing, 70.1)


@pytest.mark.parametrize(("backends", "drawn"), [(64, 0), (65, adaptive.DRAWN)])
def test_of_many_some_are_drawn(backends, drawn):
    assert costs(with_weights(*[1] * backends), Pool(), 0).candidates == drawn


def test_what_is_usual_may_change_at_once():
    """A service whose first requests were answered at once, as checks are, is not disbelieved for long."""
    random, pool, now = Random(1), Pool(), 0.0
    addresses = [Endpoint.parse(f"10.2.0.{number}:80") for number in range(1, 6)]
    for _ in range(5):
        now += 0.1
        quick = Measured(opened=2, answers=2, answer_time=0.0005)
        pool = observe(pool, dict.fromkeys(addresses, quick), now)
    waiting = {address: list[tuple[float, float]]() for address in addresses}
    for _ in range(100):
        now += 0.1
        seen = {}
        for address, requests in waiting.items():
            opened = sum(random.random() < 0.24 for _ in range(10))
            requests += [(now, now + random.expovariate(10)) for _ in range(opened)]
            done = [(begin, end) for begin, end in requests if end <= now]
            requests[:] = [each for each in requests if each not in done]
            seen[address] = Measured(
                outstanding=len(requests),
                waiting=sum(now - begin for begin, _ in requests),
                opened=opened,
                answers=len(done),
                answer_time=sum(end - begin for begin, end in done),
            )
        pool = observe(pool, seen, now)
    assert pool.usual is not None
    assert pool.usual.doubt < 4
    assert median(each.price(now) for each in pool.backends.values()) < 1.5


def test_one_request_that_hangs_does_not_keep_a_backend_hot():
    """It is hot for a second after a failure, though it has been seen to have a request ever since."""
    address = Endpoint.parse("10.2.0.1:80")
    hanging = {"outstanding": 1}
    pool, now = Pool(), 100.0
    for step in range(1, 30):
        now += 0.1
        seen = Measured(waiting=0.1 * step, failures=3 * (step == 5), **hanging)
        pool = observe(pool, {address: seen}, now)
        if step == 6:
            assert costs(
                with_weights(1, 1), Pool({with_weights(1)[0].address: pool.backends[address]}), now
            ).hot
    chosen = costs(with_weights(1, 1), Pool({with_weights(1)[0].address: pool.backends[address]}), now)
    assert not chosen.hot
