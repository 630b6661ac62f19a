"""Several probes in one line."""

from l4lb.health.probes.result import Outcome, ProbeResult
from l4lb.health.probes.summary import summary


def test_times_are_of_answers_only_and_what_was_not_sent_is_not_lost():
    done = summary(
        [
            ProbeResult(Outcome.ANSWERED, 0.003, 3),
            ProbeResult(Outcome.ANSWERED, 0.001, 3),
            ProbeResult(Outcome.ANSWERED, 0.008, 3),
            ProbeResult(Outcome.REFUSED, 0.0001, 2),
            ProbeResult(Outcome.WRONG, packets=11),
            ProbeResult(Outcome.LOST, packets=1),
            ProbeResult(Outcome.UNSENT),
        ]
    )
    assert (done.sent, done.answered, done.refused, done.wrong, done.lost, done.unsent) == (
        6,
        3,
        1,
        1,
        1,
        1,
    )
    assert (done.minimum, done.median, done.maximum) == (0.001, 0.003, 0.008)
    assert done.packets == 23


def test_no_answer_no_times():
    done = summary([ProbeResult(Outcome.LOST, packets=1)])
    assert (done.minimum, done.median, done.maximum) == (None, None, None)
