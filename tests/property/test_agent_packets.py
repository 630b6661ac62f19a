"""Whatever comes by UDP or TCP: no exception but the named one, and no answer without the key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from l4lb.agent.answerer import Answerer
from l4lb.agent.haproxy_line import BadLine, Line, parse, write
from l4lb.agent.protocol import SIZE, BadPacket, answer, question, read_answer, read_question
from l4lb.agent.report import LARGEST, Administrative, Figures, Operating, Report
from tests.property.effort import examples
from tests.unit.agent.packets import KEY, NONCE, OTHER_KEY, resealed

_WITHIN = {name: st.none() | st.floats(0.0, largest, width=32) for name, largest in LARGEST.items()}
figures = st.builds(Figures, **_WITHIN)
numbers = st.integers(0, 2**32 - 1)
reports = st.builds(
    Report,
    figures,
    st.sampled_from(Administrative),
    st.sampled_from(Operating),
    uptime=numbers,
    sequence=numbers,
)


@st.composite
def mutations(draw: st.DrawFn, packets: st.SearchStrategy[bytes]) -> bytes:
    """A packet with some bytes changed, cut or prolonged; maybe none."""
    data = bytearray(draw(packets))
    for at, value in draw(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, 255)), max_size=3)):
        data[at] = value
    return bytes(data[: draw(st.integers(0, SIZE) | st.just(SIZE))]) + draw(st.binary(max_size=4))


questions = st.binary(min_size=16, max_size=16).map(lambda nonce: question(nonce, KEY))
anything = st.binary(max_size=200) | mutations(questions)


@given(anything)
@examples(500)
def test_only_an_authentic_question_is_answered_and_the_answer_is_no_larger(data: bytes):
    try:
        read_question(data, (OTHER_KEY,))
    except BadPacket:
        pass
    else:
        raise AssertionError("taken with a key that nobody asked with")
    told = Answerer((KEY,)).answer(data, Report(Figures(cpu=0.5)))
    authentic = len(data) == SIZE and data == resealed(data[:56])
    assert told is None or (authentic and len(told) <= len(data))


@given(reports)
@examples(300)
def test_every_report_comes_back_as_it_was(report: Report):
    assert read_answer(answer(NONCE, report, KEY), KEY) == report


@given(mutations(reports.map(lambda report: answer(NONCE, report, KEY))))
@examples(500)
def test_an_answer_that_was_touched_is_refused(data: bytes):
    untouched = len(data) == SIZE and data == resealed(data)
    try:
        read_answer(data, KEY)
    except BadPacket:
        assert not untouched
    else:
        assert untouched


@given(st.binary(min_size=32, max_size=32))
@examples(500)
def test_an_agent_that_lies_at_random_is_bounded(body: bytes):
    packet = answer(NONCE, Report(), KEY)
    try:
        told = read_answer(resealed(packet[:24] + body), KEY)
    except BadPacket:
        return
    for name, largest in LARGEST.items():
        value = getattr(told.figures, name)
        assert value is None or 0 <= value <= largest


@given(st.floats(width=32), st.sampled_from(list(LARGEST)))
def test_what_is_measured_wrongly_is_never_sent_so_that_it_is_refused(value: float, name: str):
    told = read_answer(answer(NONCE, Report(Figures(**{name: value})), KEY), KEY)
    sent = getattr(told.figures, name)
    if 0 <= value <= LARGEST[name]:
        assert sent == value


words = st.sampled_from(
    [
        "up",
        "down",
        "fail",
        "stopped",
        "ready",
        "drain",
        "maint",
        "75%",
        "0%",
        "maxconn:3",
        "#",
        "%,",
        "UP",
        "x",
        "\t",
    ]
)


@given(st.binary(max_size=60) | st.lists(words).map(lambda some: " ".join(some).encode() + b"\n"))
@examples(500)
def test_a_line_is_read_or_refused(data: bytes):
    try:
        line = parse(data)
    except BadLine:
        return
    assert line != Line()


@given(
    st.sampled_from(Administrative),
    st.sampled_from(Operating),
    st.none() | st.integers(0, 256).map(lambda percent: percent / 100),
)
def test_every_line_written_can_be_read(
    administrative: Administrative, operating: Operating, weight: float | None
):
    report = Report(administrative=administrative, operating=operating, weight=weight)
    assert parse(write(report)).applied_to(Report()) == report
