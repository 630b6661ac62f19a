"""The packets of the agent protocol."""

from __future__ import annotations

import math
import struct

import pytest

from l4lb.agent.protocol import (
    SIZE,
    BadPacket,
    Refusal,
    answer,
    question,
    read_answer,
    read_nonce,
    read_question,
)
from l4lb.agent.report import LARGEST, Administrative, Figures, Operating, Report
from tests.unit.agent.packets import KEY, NONCE, OTHER_KEY, changed, resealed

# Figures that binary32 holds exactly.
FIGURES = Figures(cpu=0.5, memory=0.25, load=12.5, queue=0.0, application=1.0)
REPORT = Report(FIGURES, Administrative.DRAIN, Operating.FAIL, uptime=77, sequence=5)


def refused(data: bytes) -> tuple[Refusal, str]:
    with pytest.raises(BadPacket) as caught:
        read_answer(data, KEY)
    return caught.value.refusal, str(caught.value)


def test_a_question_gives_its_nonce_and_the_key_it_was_asked_with():
    assert read_question(question(NONCE, KEY), (OTHER_KEY, KEY)) == (NONCE, KEY)


@pytest.mark.parametrize("report", [REPORT, Report(), Report(Figures(cpu=1.0), uptime=2**32 - 1)])
def test_an_answer_says_what_it_was_given(report: Report):
    data = answer(NONCE, report, KEY)
    assert (read_nonce(data), read_answer(data, KEY)) == (NONCE, report)


def test_an_answer_is_as_large_as_its_question():
    assert len(question(NONCE, KEY)) == len(answer(NONCE, REPORT, KEY)) == SIZE


def test_the_bytes_are_those_of_the_table():
    asked, told = question(NONCE, KEY), answer(NONCE, REPORT, KEY)
    assert asked[:56] == b"L4AG\x01\x01\x00\x00" + NONCE + bytes(32)
    assert told[:28] == b"L4AG\x01\x02\x00\x00" + NONCE + b"\x1f\x01\x02\x00"
    assert told[28:56] == struct.pack("!5fII", 0.5, 0.25, 12.5, 0.0, 1.0, 77, 5)


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"", Refusal.TRUNCATED),
        (question(NONCE, KEY)[:-1], Refusal.TRUNCATED),
        (question(NONCE, KEY) + b"\0", Refusal.OVERSIZED),
        (b"GET / HTTP/1.1\r\n\r\n", Refusal.FOREIGN),
        (changed(question(NONCE, KEY), 4, 2), Refusal.WRONG_VERSION),
        (b"L4AG\x02", Refusal.WRONG_VERSION),  # whatever size version 2 will have
        (answer(NONCE, REPORT, KEY), Refusal.WRONG_KIND),
        (changed(question(NONCE, KEY), 7, 1), Refusal.MALFORMED),
        (question(NONCE, OTHER_KEY), Refusal.UNAUTHENTICATED),
        (changed(question(NONCE, KEY), 8, 1), Refusal.UNAUTHENTICATED),
        (resealed(changed(question(NONCE, KEY), 55, 1)), Refusal.MALFORMED),
    ],
)
def test_a_question_that_is_refused(data: bytes, refusal: Refusal):
    with pytest.raises(BadPacket) as caught:
        read_question(data, (KEY,))
    assert caught.value.refusal is refusal


@pytest.mark.parametrize("at", range(SIZE))
def test_no_byte_of_an_answer_can_be_changed(at: int):
    data = answer(NONCE, REPORT, KEY)
    assert refused(changed(data, at, data[at] ^ 1))[0] is not Refusal.BAD_FIGURE


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "is not a number"),
        (math.inf, "is infinite"),
        (-math.inf, "is infinite"),
        (-0.5, "is negative: -0.5"),
        (1e9, "is 1e+09, above"),
    ],
)
def test_a_figure_that_cannot_be_is_refused_by_name(name: str, value: float, words: str):
    at = 28 + 4 * list(LARGEST).index(name)
    data = bytearray(answer(NONCE, REPORT, KEY))
    struct.pack_into("!f", data, at, value)
    refusal, message = refused(resealed(bytes(data)))
    assert refusal is Refusal.BAD_FIGURE
    assert message.startswith(f"{name} {words}")


@pytest.mark.parametrize(("at", "value"), [(24, 0x20), (27, 1), (25, 3), (26, 4)])
def test_an_authentic_answer_with_unknown_bits_or_states_is_refused(at: int, value: int):
    refusal, _ = refused(resealed(changed(answer(NONCE, REPORT, KEY), at, value)))
    assert refusal is Refusal.MALFORMED


def test_a_figure_that_is_absent_is_not_looked_at():
    data = changed(answer(NONCE, REPORT, KEY), 24, 0)
    assert read_answer(resealed(data), KEY).figures == Figures()


@pytest.mark.parametrize(
    ("measured", "sent"), [(1.5, 1.0), (-0.1, 0.0), (math.nan, None), (math.inf, None), (None, None)]
)
def test_an_agent_sends_no_figure_that_would_be_refused(measured: float | None, sent: float | None):
    told = read_answer(answer(NONCE, Report(Figures(cpu=measured)), KEY), KEY)
    assert told.figures.cpu == sent


def test_a_nonce_has_its_size():
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        question(bytes(15), KEY)
