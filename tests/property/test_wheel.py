"""Nothing comes up before its deadline, and nothing much later."""

from hypothesis import given
from hypothesis import strategies as st

from l4lb.director.connection import Path, make_connection
from l4lb.director.wheel import Wheel
from l4lb.model import BackendPlan, Endpoint, Nat, Protocol, State
from tests.property.effort import examples

VIP = Endpoint.parse("192.0.2.1:80")
PATH = Path("web", VIP, Protocol.TCP, Nat.DESTINATION, BackendPlan(Endpoint.parse("10.0.0.1:80")))
START = 1000.0
LATEST = 2.0
"""Seconds that a wheel which is turned every second may be late: one of its own, one till it turns."""

seconds = st.floats(0, 40)
plans = st.lists(st.tuples(seconds, seconds), max_size=30)  # (when it is placed, how long it has)


def connections(count):
    ends = [Endpoint(bytes([203, 0, 113, 1]), port) for port in range(1, count + 1)]
    return [make_connection(PATH, end, end, State.ESTABLISHED, 0.0) for end in ends]


@examples(150)
@given(plans, st.integers(1, 40))
def test_each_comes_up_once_and_in_time(plan, limit):
    wheel = Wheel(START)
    made = connections(len(plan))
    deadlines = {one: START + placed + takes for one, (placed, takes) in zip(made, plan, strict=True)}
    placed_at = sorted(zip(plan, made, strict=True), key=lambda entry: entry[0][0])
    came_up = {}
    for second in range(100):
        now = START + second
        while placed_at and START + placed_at[0][0][0] <= now:
            one = placed_at.pop(0)[1]
            wheel.place(one, deadlines[one])
        for _ in range(40):  # as often as the limit asks for
            for one in wheel.due(now, limit):
                assert one not in came_up, "came up twice"
                came_up[one] = now
    assert set(came_up) == set(made)
    for one, now in came_up.items():
        assert deadlines[one] <= now <= deadlines[one] + LATEST


@examples(150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["place", "remove", "turn"]), st.integers(0, 5), st.floats(0, 30)),
        max_size=80,
    )
)
def test_a_connection_is_in_one_bucket_or_none(steps):
    wheel, now = Wheel(START), START
    made = connections(6)
    deadlines = {}
    for what, which, amount in steps:
        one = made[which]
        if what == "place":
            wheel.place(one, now + amount - 5)  # also in the past, which is as good as now
            deadlines[one] = max(now + amount - 5, now)
        elif what == "remove":
            wheel.remove(one)
            deadlines.pop(one, None)
        else:
            now += amount
            for due in wheel.due(now, 1000):
                assert deadlines.pop(due) <= now
            assert all(deadline > now - LATEST for deadline in deadlines.values())
        held = [one for bucket in wheel._buckets.values() for one in bucket]
        assert sorted(map(id, held)) == sorted(map(id, deadlines))
        for one in made:
            assert (one.bucket is not None and one in one.bucket) == (one in deadlines)
