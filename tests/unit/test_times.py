"""Times as counts and buckets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.model import Times
from l4lb.times import (
    BUCKETS,
    LONGEST,
    UNIT,
    Stopwatch,
    added,
    bucket_of,
    by_end,
    from_ends,
    quantile,
    since,
    upper_bound,
)

units = st.integers(0, 2**33)


@given(units)
def test_a_time_is_below_the_end_of_its_bucket_and_not_below_its_beginning(value):
    bucket = bucket_of(value)
    assert 0 <= bucket < BUCKETS
    if bucket < BUCKETS - 1:
        assert value * UNIT < upper_bound(bucket)
    if bucket:
        assert value * UNIT >= upper_bound(bucket - 1) * (1 - 1e-12)


def test_buckets_follow_each_other_and_grow_by_a_quarter_at_most():
    ends = [upper_bound(bucket) for bucket in range(BUCKETS)]
    assert ends == sorted(set(ends))
    assert all(later / end <= 1.25 + 1e-9 for end, later in pairwise(ends[4:]))
    assert 30 < ends[-1] < 40


def taken(*seconds):
    watch = Stopwatch()
    for each in seconds:
        watch.took(each)
    return watch.read()


def test_quantiles():
    times = taken(*[0.001] * 90, *[0.1] * 9, 2.0)
    assert quantile(times, 0.5) == pytest.approx(0.001, rel=0.25)
    assert quantile(times, 0.99) == pytest.approx(0.1, rel=0.25)
    assert quantile(times, 1.0) == pytest.approx(2.0, rel=0.25)
    assert quantile(Times(), 0.5) is None


def test_what_has_come_since():
    before, now = taken(0.1, 0.2), taken(0.1, 0.2, 0.4)
    assert since(now, before).count == 1
    assert since(now, before).total == pytest.approx(0.4)
    assert quantile(since(now, before), 1.0) == pytest.approx(0.4, rel=0.25)
    assert since(now, now) == Times()
    assert since(now, Times()) == now
    assert since(before, now) == before  # counted anew


def test_the_average_moves_with_the_last_ones():
    assert taken(0.5).average == pytest.approx(0.5)
    assert taken(0.5, 1.3).average == pytest.approx(0.6)
    assert taken(*[9.0] * 5, *[0.1] * 100).average == pytest.approx(0.1, rel=0.01)


def test_the_average_is_of_times_cut_at_what_the_programs_can_average():
    hours = 5 * 3600.0
    times = taken(hours, hours, 0.5)
    assert times.average == pytest.approx(LONGEST * 7 / 8 + 0.5 / 8)
    assert times.total == pytest.approx(2 * hours + 0.5)
    most = round(LONGEST / UNIT)
    average8 = 8 * most
    for _ in range(100):  # as in bpf/measure.h, rounded as there
        assert average8 - average8 // 8 + most < 2**32
        average8 += most - average8 // 8


def test_buckets_are_told_by_their_ends():
    assert by_end(taken(0.1, 0.1, 0.000_001)) == {"0.000004": 1, "0.100663": 2}
    assert by_end(Times()) == {}
    assert from_ends({}) == ()
    every = Times(1, 1.0, 1.0, tuple(range(1, BUCKETS + 1)))
    assert len(by_end(every)) == BUCKETS
    assert from_ends(by_end(every)) == every.buckets


def test_added_up():
    both = added([taken(0.1), Times(), taken(0.2, 0.3)])
    assert both.count == sum(both.buckets) == 3
    assert both.total == pytest.approx(0.6)
    assert added([]) == Times()
