"""Which packets an agent answers."""

from __future__ import annotations

from l4lb.agent.answerer import Answerer
from l4lb.agent.protocol import Refusal, question, read_answer, read_nonce
from l4lb.agent.report import Figures, Report
from tests.unit.agent.packets import KEY, NONCE, OTHER_KEY

REPORT = Report(Figures(cpu=0.5))


def nonce(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_a_question_is_answered_with_the_key_it_was_asked_with():
    answerer = Answerer((OTHER_KEY, KEY))
    data = answerer.answer(question(NONCE, KEY), REPORT)
    assert data is not None
    assert read_nonce(data) == NONCE
    assert read_answer(data, KEY) == REPORT


def test_answers_are_numbered():
    answerer = Answerer((KEY,))
    answers = [answerer.answer(question(nonce(number), KEY), REPORT) for number in range(3)]
    assert [read_answer(data, KEY).sequence for data in answers if data] == [0, 1, 2]
    assert answerer.answered == 3


def test_a_replayed_question_is_not_answered():
    answerer = Answerer((KEY,))
    assert answerer.answer(question(NONCE, KEY), REPORT)
    assert answerer.answer(question(NONCE, KEY), REPORT) is None
    assert answerer.refused == {Refusal.REPLAYED: 1}


def test_the_memory_for_replays_is_bounded_and_forgets_the_oldest():
    answerer = Answerer((KEY,), remembered=2)
    one, two, three = (question(nonce(number), KEY) for number in (1, 2, 3))
    assert all(answerer.answer(data, REPORT) for data in (one, two, three))
    assert answerer.answer(two, REPORT) is None
    assert answerer.answer(three, REPORT) is None
    assert answerer.answer(one, REPORT)


def test_what_is_not_authentic_is_not_remembered():
    answerer = Answerer((KEY,))
    assert answerer.answer(question(NONCE, OTHER_KEY), REPORT) is None
    assert answerer.answer(question(NONCE, KEY), REPORT)
    assert answerer.refused == {Refusal.UNAUTHENTICATED: 1}
