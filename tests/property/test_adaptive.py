"""What adaptive promises whatever it is told."""

from dataclasses import fields
from math import inf, nan

from hypothesis import given
from hypothesis import strategies as st

from l4lb.model import MAX_COST, WHOLE
from l4lb.schedulers.adaptive import FIRST, Pool, costs, observe
from l4lb.schedulers.estimate import PRICES
from l4lb.schedulers.least_connection import UNIT
from l4lb.schedulers.measured import Measured
from tests.unit.schedulers.candidates import with_weights

ANYTHING = st.one_of(
    st.integers(0, 50), st.floats(0, 10), st.sampled_from([nan, inf, -inf, -1, 1e-300, 1e9, 1e300, 2**64])
)
LOOK = st.builds(
    Measured, **{it.name: ANYTHING for it in fields(Measured) if it.name != "hot"}, hot=st.booleans()
)
LOOKS = st.lists(st.tuples(st.floats(-1, 100), st.lists(LOOK, min_size=3, max_size=3)), max_size=20)
WEIGHTS = st.lists(st.integers(1, 65_535), min_size=3, max_size=3)
SANE = st.builds(
    Measured, answers=st.integers(0, 50), answer_time=st.floats(0, 10), waiting=st.floats(0, 10)
)


def told(looks, candidates):
    pool, now = Pool(), 0.0
    for passed, measured in looks:
        now += passed
        seen = {it.address: look for it, look in zip(candidates, measured, strict=True)}
        pool = observe(pool, seen, now)
    return pool, now


@given(LOOKS, WEIGHTS)
def test_costs_are_always_such_as_a_datapath_takes(looks, weights):
    candidates = with_weights(*weights)
    selection = costs(candidates, *told(looks, candidates))

    assert [index for index, _ in selection.costs] == [0, 1, 2]
    assert all(isinstance(cost, int) and 1 <= cost <= MAX_COST for _, cost in selection.costs)
    assert 0 <= selection.idle <= WHOLE
    assert selection.hot < {0, 1, 2}


@given(LOOKS)
def test_nobody_costs_more_than_the_bound_times_the_cheapest(looks):
    candidates = with_weights(1, 1, 1)
    prices = [cost / UNIT for _, cost in costs(candidates, *told(looks, candidates)).costs]

    assert min(prices) >= 0.7 - 0.001, "of who is owed something"
    assert max(prices) <= max(PRICES) / FIRST + 0.001


@given(st.lists(st.tuples(st.floats(0, 1), SANE), max_size=30))
def test_backends_that_look_the_same_cost_the_same(looks):
    candidates = with_weights(1, 1, 1)
    selection = costs(candidates, *told([(passed, [it] * 3) for passed, it in looks], candidates))

    assert len({cost for _, cost in selection.costs}) == 1
    assert len(selection.hot) in (0, 3)


@given(LOOKS)
def test_after_ten_quiet_seconds_all_cost_the_same_again(looks):
    candidates = with_weights(1, 1, 1)
    pool, now = told(looks, candidates)
    last = max([now, *(it.looked for it in pool.backends.values())])
    for look in range(1, 102):
        pool = observe(pool, {it.address: Measured() for it in candidates}, last + look / 10)
    selection = costs(candidates, pool, last + 10.1)

    assert len({cost for _, cost in selection.costs}) == 1
    assert not selection.hot
