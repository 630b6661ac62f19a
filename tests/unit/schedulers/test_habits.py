import pytest

from l4lb.model import WHOLE
from l4lb.schedulers.habits import Habits, observe
from l4lb.schedulers.measured import Measured


def idle(**counted):
    return observe(Habits(), [Measured(**counted)], 0.1).idle


def test_connections_of_one_request_leave_only_what_is_in_flight():
    assert idle(opened=50, answers=50, outstanding=10, idle=3) == 0


def test_long_ones_count_nearly_alike_busy_or_not():
    assert 0.9 * WHOLE < idle(opened=1, answers=100, outstanding=10, idle=10) <= WHOLE


def test_the_longer_the_connections_the_more():
    values = [idle(opened=1, answers=requests, outstanding=5, idle=15) for requests in (1, 2, 5, 20, 100)]
    assert values == sorted(values)


def test_those_that_hardly_ever_ask_count_little():
    assert idle(opened=20, answers=100, outstanding=1, idle=999) < 0.05 * WHOLE


@pytest.mark.parametrize("counted", [{}, {"opened": 5}, {"idle": 5}, {"answers": 5}, {"outstanding": 5}])
def test_while_little_is_known_connections_count_as_in_least_connection(counted):
    assert idle(**counted) == WHOLE


def test_habits_change_slowly():
    long = observe(Habits(), [Measured(opened=10, answers=1000, outstanding=50, idle=50)], 0.0)
    assert observe(long, [Measured(opened=5, answers=5)], 0.1).idle > 0.9 * WHOLE
    assert observe(long, [Measured(opened=50, answers=50, outstanding=5)], 600.0).idle < 0.1 * WHOLE
