"""Which answer belongs to which SYN probe."""

import pytest

from l4lb.health.probes.handshakes import MEMORY, REPEATS, Flow, Handshakes, Verdict
from l4lb.health.probes.segments import Segment
from l4lb.model import Endpoint
from l4lb.wire.tcp import ACK, FIN, PSH, RST, SYN

A, B = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("[2001:db8::b]:80")
PORT, SEQUENCE = 40_000, 1_000
FLOW = Flow(A, PORT)


def reply(flags=SYN | ACK, *, source=A, port=PORT, acknowledgement=SEQUENCE + 1):
    return Segment(source, port, 7, acknowledgement, flags)


@pytest.fixture
def handshakes():
    handshakes = Handshakes()
    handshakes.begin(FLOW, SEQUENCE, 0.0)
    return handshakes


@pytest.mark.parametrize(
    ("segment", "verdict"),
    [
        (reply(), Verdict.ANSWER),
        (reply(RST | ACK), Verdict.REFUSAL),
        (reply(acknowledgement=SEQUENCE), Verdict.FORGED),
        (reply(RST | ACK, acknowledgement=SEQUENCE + 2), Verdict.FORGED),
        (reply(RST), Verdict.FORGED),
        (reply(SYN), Verdict.FORGED),
        (reply(ACK), Verdict.FOREIGN),
        (reply(FIN | ACK | PSH), Verdict.FOREIGN),
        (reply(port=PORT + 1), Verdict.FOREIGN),
        (reply(source=B), Verdict.FOREIGN),
        (reply(source=Endpoint(A.ip, 81)), Verdict.FOREIGN),
    ],
)
def test_what_a_segment_is_to_a_probe_that_waits(handshakes, segment, verdict):
    assert handshakes.receive(segment) is verdict
    assert handshakes.waits(FLOW) is (verdict not in (Verdict.ANSWER, Verdict.REFUSAL))
    assert handshakes.forged == (verdict is Verdict.FORGED)
    assert handshakes.late == 0


def test_a_forged_answer_does_not_keep_the_true_one_from_counting(handshakes):
    assert handshakes.receive(reply(acknowledgement=5)) is Verdict.FORGED
    assert handshakes.receive(reply()) is Verdict.ANSWER


def test_answers_that_come_once_more_are_counted(handshakes):
    assert [handshakes.receive(reply()) for _ in range(3)] == [
        Verdict.ANSWER,
        Verdict.REPEATED,
        Verdict.REPEATED,
    ]
    assert (handshakes.repeated, handshakes.late, handshakes.forged) == (2, 0, 0)


def test_who_repeats_himself_for_ever_is_not_counted_for_ever(handshakes):
    for _ in range(1_000):
        handshakes.receive(reply())
    assert handshakes.repeated == REPEATS


def test_sequence_numbers_wrap_around():
    handshakes = Handshakes()
    handshakes.begin(FLOW, 0xFFFF_FFFF, 0.0)
    assert handshakes.receive(reply(acknowledgement=0)) is Verdict.ANSWER


def test_an_answer_after_its_probe_was_given_up_is_late_and_counted_once(handshakes):
    handshakes.give_up(FLOW)
    assert not handshakes.waits(FLOW)
    assert handshakes.receive(reply()) is Verdict.LATE
    assert handshakes.receive(reply()) is Verdict.REPEATED
    assert handshakes.late == 1


def test_giving_up_what_was_answered_or_never_begun_changes_nothing(handshakes):
    handshakes.receive(reply())
    handshakes.give_up(FLOW)
    handshakes.give_up(Flow(B, PORT))
    assert handshakes.receive(reply()) is Verdict.REPEATED
    assert handshakes.late == 0


def test_the_answer_to_the_probe_before_does_not_answer_this_one(handshakes):
    handshakes.give_up(FLOW)
    handshakes.begin(FLOW, 2_000, 1.0)
    assert handshakes.receive(reply()) is Verdict.FORGED
    assert handshakes.receive(reply(acknowledgement=2_001)) is Verdict.ANSWER


def test_probes_are_forgotten_after_a_while_also_those_of_reused_ends(handshakes):
    handshakes.give_up(FLOW)
    handshakes.begin(FLOW, 2_000, MEMORY - 1)
    handshakes.begin(Flow(B, PORT), 3_000, MEMORY + 1)
    assert handshakes.waits(FLOW), "the younger one of the two"
    handshakes.give_up(FLOW)
    handshakes.begin(Flow(B, PORT + 1), 3_000, 2 * MEMORY)
    assert handshakes.receive(reply(acknowledgement=2_001)) is Verdict.FOREIGN
