"""Averages over time."""

import math

import pytest

from l4lb.agent.damping import BusyShare, Damped


def test_the_first_sample_is_believed_and_then_the_average_follows_time_not_samples():
    seldom, often = Damped(2.0), Damped(2.0)
    assert seldom.value is None
    assert seldom.add(0.0, 10.0) == 0.0
    often.add(0.0, 10.0)
    for step in range(1, 21):
        often.add(1.0, 10.0 + step / 10)
    assert seldom.add(1.0, 12.0) == pytest.approx(1 - math.exp(-1))
    assert often.value == pytest.approx(seldom.value)


def test_a_clock_that_jumps_back_stands_still_and_one_that_jumps_on_forgets():
    average = Damped(2.0)
    average.add(0.0, 1000.0)
    assert average.add(1.0, 10.0) == 0.0
    assert average.add(1.0, 1e9) == 1.0


def test_the_busy_share_is_between_two_readings_and_damped():
    share = BusyShare(1.0)
    assert share.add(100.0, 1000.0, 0.0) is None
    assert share.add(101.0, 1002.0, 1.0) == 0.5
    assert share.add(103.0, 1004.0, 2.0) == pytest.approx(1 - 0.5 * math.exp(-1))


@pytest.mark.parametrize(("busy", "total"), [(101.0, 1002.0), (90.0, 900.0), (102.0, 1002.0)])
def test_readings_that_do_not_advance_say_nothing(busy: float, total: float):
    share = BusyShare(1.0)
    share.add(100.0, 1000.0, 0.0)
    share.add(101.0, 1002.0, 1.0)
    assert share.add(busy, total, 2.0) == 0.5


@pytest.mark.parametrize(("busy", "share"), [(99.0, 0.0), (110.0, 1.0)])
def test_a_counter_that_is_not_exact_stays_within_bounds(busy: float, share: float):
    measured = BusyShare(1.0)
    measured.add(100.0, 1000.0, 0.0)
    assert measured.add(busy, 1004.0, 1.0) == share
