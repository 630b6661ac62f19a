"""Nothing comes up early, or is looked at without need."""

import pytest

from l4lb.director.connection import Path, make_connection
from l4lb.director.wheel import Wheel
from l4lb.model import BackendPlan, Endpoint, Nat, Protocol, State

VIP = Endpoint.parse("192.0.2.1:80")
PATH = Path("web", VIP, Protocol.TCP, Nat.DESTINATION, BackendPlan(Endpoint.parse("10.0.0.1:80")))


def connection(port=1):
    client = Endpoint.parse(f"203.0.113.1:{port}")
    return make_connection(PATH, client, client, State.ESTABLISHED, 0.0)


@pytest.fixture
def wheel():
    return Wheel(100.0)


def due(wheel, now, limit=1000):
    return list(wheel.due(now, limit))


@pytest.mark.parametrize(
    ("deadline", "comes_up"), [(105.0, 106), (105.01, 106), (105.99, 106), (106.0, 107)]
)
def test_it_comes_up_within_a_second_of_its_deadline(wheel, deadline, comes_up):
    one = connection()
    wheel.place(one, deadline)
    assert due(wheel, comes_up - 0.01) == []
    assert due(wheel, float(comes_up)) == [one]
    assert one.bucket is None


def test_it_comes_up_once(wheel):
    wheel.place(connection(), 105.0)
    assert len(due(wheel, 200.0)) == 1
    assert due(wheel, 300.0) == []


def test_placed_again_it_comes_up_at_the_last_deadline_only(wheel):
    one = connection()
    for deadline in (105.0, 150.0, 120.0):
        wheel.place(one, deadline)
    assert due(wheel, 119.0) == []
    assert due(wheel, 121.0) == [one]
    assert due(wheel, 999.0) == []


def test_a_deadline_in_the_past_comes_up_next(wheel):
    one = connection()
    due(wheel, 500.0)
    wheel.place(one, 20.0)
    assert due(wheel, 500.9) == []
    assert due(wheel, 501.0) == [one]


def test_taken_out_it_does_not_come_up(wheel):
    one = connection()
    wheel.place(one, 105.0)
    wheel.remove(one)
    wheel.remove(one)
    assert one.bucket is None
    assert due(wheel, 999.0) == []


def test_a_limit_leaves_the_rest_for_the_next_call(wheel):
    many = {connection(port) for port in range(1, 26)}
    for number, one in enumerate(many):
        wheel.place(one, 105.0 + number % 3)
    seen = []
    for _ in range(3):
        part = due(wheel, 200.0, limit=10)
        assert len(part) <= 10
        seen += part
    assert len(seen) == 25
    assert set(seen) == many


def test_the_rest_may_be_changed_between_two_calls(wheel):
    one, two = connection(1), connection(2)
    for each in (one, two):
        wheel.place(each, 105.0)
    (first,) = due(wheel, 200.0, limit=1)
    other = two if first is one else one
    wheel.remove(other)
    wheel.place(first, 300.0)
    assert due(wheel, 299.0) == []
    assert due(wheel, 301.0) == [first]


def test_one_that_is_placed_again_while_due_are_taken_comes_up_later(wheel):
    """So that expiry ends also when all it looks at was used meanwhile."""
    many = [connection(port) for port in range(1, 6)]
    for one in many:
        wheel.place(one, 105.0)
    taken = 0
    for one in wheel.due(200.0, 1000):
        wheel.place(one, 200.5)
        taken += 1
    assert taken == 5
    assert len(due(wheel, 201.0)) == 5


def test_empty_buckets_are_not_kept(wheel):
    for number in range(1000):
        wheel.place(one := connection(), 105.0 + number)
        wheel.remove(one)
    due(wheel, 2000.0)
    assert not wheel._buckets
