from l4lb.model import Load
from l4lb.schedulers.measured import Measured, between


def test_counters_are_taken_since_the_last_look_and_the_rest_as_it_stands():
    before = Load(
        established=9,
        answers=10,
        answer_time=1.0,
        confirmed=20,
        resets=1,
        retransmissions=5,
        unanswered=2,
    )
    after = Load(
        half_open=1,
        established=8,
        outstanding=3,
        waiting=0.5,
        answers=14,
        answer_time=1.25,
        confirmed=25,
        resets=2,
        retransmissions=11,
        unanswered=4,
    )

    assert between(before, after, hot=True) == Measured(
        outstanding=3,
        idle=5,
        waiting=0.5,
        opened=5,
        answers=4,
        answer_time=0.25,
        silences=6,
        failures=3,
        hot=True,
    )
