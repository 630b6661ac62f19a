"""HAProxy's agent-check, as its manual has it."""

from __future__ import annotations

import pytest

from l4lb.agent.haproxy_line import LONGEST, BadLine, Line, parse, write
from l4lb.agent.report import Administrative, Operating, Report

READY, DRAIN, MAINT = Administrative
UP, DOWN, FAIL, STOPPED = Operating


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"up 75%\n", Line(operating=UP, percentage=75)),
        (b"drain\n", Line(DRAIN)),
        (b"maint\r\n", Line(MAINT)),
        (b"ready\r", Line(READY)),
        (b"down # why\n", Line(operating=DOWN, description="why")),
        (b"fail #\tdisk full\n", Line(operating=FAIL, description="disk full")),
        (b"failed\n", Line(operating=FAIL)),
        (b"stopped # for good # really\n", Line(operating=STOPPED, description="for good # really")),
        (b"75%,maxconn:30,maint,down\n", Line(MAINT, DOWN, 75)),
        (b" \t, UP,\tReady ,100% \n", Line(READY, UP, 100)),
        (b"up down 10% 20%\n", Line(operating=DOWN, percentage=20)),
        (b"0%\n", Line(percentage=0)),
        (b"25600%\n", Line(percentage=25600)),
        (b"25601%\n", Line(percentage=25600)),
        (b"9" * 1000 + b"%\n", Line(percentage=25600)),
        (b"up\nand whatever follows \xff", Line(operating=UP)),
        (b"up maxconn:0 # none\n", Line(operating=Operating.UP, description="none")),
    ],
)
def test_lines_of_the_manual(data: bytes, line: Line):
    assert parse(data) == line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the line has no end"),
        (b"up", "the line has no end"),
        (b"a" * LONGEST, "no end of the line within 1024 bytes"),
        (b"\n", "the line says nothing"),
        (b" # only words\n", "the line says nothing"),
        (b"up nan%\n", "'nan%' is not a word"),
        (b"-5%\n", "'-5%' is not a word"),
        (b"75.5%\n", "'75.5%' is not a word"),
        ("٧٥%\n".encode(), "is not a word"),
        (b"maxconn: 30\n", "'maxconn:' is not a word"),
        (b"maxconn:-1\n", "'maxconn:-1' is not a word"),
        (b"upp\n", "'upp' is not a word"),
        (b"\xff\xfe\n", "not text"),
        (b"HTTP/1.1 400 Bad Request\r\n", "'HTTP/1.1' is not a word"),
        (b"x" * 200 + b"\n", repr("x" * 40)),
    ],
)
def test_lines_that_are_refused(data: bytes, message: str):
    with pytest.raises(BadLine) as caught:
        parse(data)
    assert message in str(caught.value)


def test_what_a_line_does_not_say_stays():
    report = Report()
    for data in (b"drain down 50% # no disk\n", b"75%\n"):
        report = parse(data).applied_to(report)
    assert report == Report(administrative=DRAIN, operating=DOWN, weight=0.75, note="no disk")
    assert parse(b"up\n").applied_to(report) == Report(administrative=DRAIN, weight=0.75)


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (Report(weight=0.754), b"up ready 75%\n"),
        (Report(administrative=DRAIN, weight=1.0), b"up drain 100%\n"),
        (Report(operating=DOWN, note="no disk"), b"down ready # no disk\n"),
        (Report(note="of no use"), b"up ready\n"),
    ],
)
def test_the_line_of_a_report(report: Report, line: bytes):
    assert write(report) == line


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}"])
def test_a_description_that_is_too_long_is_cut_and_the_states_are_read(letter):
    line = write(Report(operating=Operating.DOWN, note=letter * 2_000))
    assert len(line) <= LONGEST
    assert parse(line).operating is Operating.DOWN
