"""What is believed of agents."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from l4lb.agent.haproxy_line import parse
from l4lb.agent.report import Administrative, Figures, Operating, Report
from l4lb.health.agents.reports import AgentState, Reports, Wish
from l4lb.model import AgentCheck, Endpoint

A, B = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("10.2.0.12:80")
WEB_A = ("web", A)
AGENT = AgentCheck(7077, key="/key", interval=2.0, timeout=1.0, cpu_limit=0.9, memory_limit=0.8)


def kept(agent: AgentCheck = AGENT) -> Reports:
    reports = Reports()
    reports.update({WEB_A: agent})
    return reports


def said(*reports: Report, agent: AgentCheck = AGENT) -> Reports:
    """Reports of A, two seconds apart, the last one at 0."""
    keeper = kept(agent)
    for before, report in zip(range(len(reports) - 1, -1, -1), reports, strict=True):
        keeper.heard(WEB_A, report, -2.0 * before, 0.001)
    return keeper


def state(reports: Reports, now: float = 0.0) -> tuple[AgentState, str]:
    sight = reports.look(*WEB_A, now)
    assert sight is not None
    return sight.state, sight.reason


def wished(reports: Reports, now: float = 0.0) -> Wish:
    sight = reports.look(*WEB_A, now)
    assert sight is not None
    return sight.wish


def cpu(value: float) -> Report:
    return Report(Figures(cpu=value))


def test_a_backend_without_an_agent():
    reports = kept()
    assert reports.look("web", B, 0.0) is None
    assert reports.look("other", A, 0.0) is None


def test_before_the_first_answer_and_without_one():
    reports = kept()
    assert state(reports) == (AgentState.UNASKED, "")
    reports.failed(WEB_A, "no answer within 1 s")
    assert state(reports) == (AgentState.SILENT, "ignored: no answer within 1 s")
    assert reports.look(*WEB_A, 0.0).report is None


def test_a_report_with_its_age():
    sight = said(cpu(0.25)).look(*WEB_A, 1.5)
    assert sight is not None
    assert (sight.state, sight.report, sight.age, sight.rtt) == (AgentState.OK, cpu(0.25), 1.5, 0.001)


def lost(reports: Reports, questions: int = 3) -> Reports:
    for _ in range(questions):
        reports.failed(WEB_A, "no answer within 1 s")
    return reports


def test_a_report_is_stale_after_three_questions_without_an_answer():
    reports = lost(said(cpu(0.25)), 2)
    assert reports.look(*WEB_A, 7.0).report == cpu(0.25)
    lost(reports, 1)
    assert reports.look(*WEB_A, 7.0).report is None
    assert state(reports, 7.0) == (AgentState.STALE, "ignored, 7 s old: no answer within 1 s")


def test_two_questions_without_an_answer_between_others_change_nothing():
    reports = said(cpu(0.25))
    for now in (6.0, 12.0):
        lost(reports, 2)
        assert state(reports, now) == (AgentState.OK, "")
        reports.heard(WEB_A, cpu(0.25), now, 0.001)


@pytest.mark.parametrize(("interval", "oldest"), [(2.0, 181.0), (600.0, 1801.0)])
def test_what_is_very_old_is_stale_though_nobody_was_asked(interval: float, oldest: float):
    reports = said(cpu(0.25), agent=replace(AGENT, interval=interval))
    assert state(reports, oldest)[0] is AgentState.OK
    assert state(reports, oldest + 1.0) == (AgentState.STALE, f"ignored, {oldest + 1.0:.0f} s old")


def test_a_figure_that_rises_is_believed_at_once_and_one_that_falls_slowly():
    report = said(cpu(0.2), cpu(0.8), cpu(0.0)).look(*WEB_A, 0.0).report
    assert report is not None
    assert report.figures.cpu == pytest.approx(0.8 * math.exp(-2 / 10))


MEMORY = Report(Figures(memory=0.5))


def test_a_figure_that_was_missing_three_times_in_a_row_is_gone():
    assert said(cpu(0.9), MEMORY, MEMORY, MEMORY).look(*WEB_A, 0.0).report == MEMORY
    both = Report(Figures(cpu=0.9, memory=0.5))
    assert said(cpu(0.9), MEMORY, MEMORY).look(*WEB_A, 0.0).report == both


def test_one_without_a_figure_now_and_then_stays_hot():
    assert state(said(*[cpu(0.99), MEMORY, Report()] * 20)) == (AgentState.HOT, "CPU 99%, limit 90%")
    assert state(said(cpu(0.99), MEMORY, MEMORY, MEMORY))[0] is AgentState.OK


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        (Figures(cpu=0.95), "CPU 95%, limit 90%"),
        (Figures(memory=0.81), "memory 81%, limit 80%"),
        (Figures(cpu=1.0, memory=1.0), "CPU 100%, limit 90%; memory 100%, limit 80%"),
    ],
)
def test_a_backend_over_a_limit_is_hot(figures: Figures, reason: str):
    assert state(said(Report(figures))) == (AgentState.HOT, reason)


@pytest.mark.parametrize("figures", [Figures(cpu=0.9, memory=0.8), Figures(), Figures(load=9999.0)])
def test_a_backend_at_its_limits_is_not(figures: Figures):
    assert state(said(Report(figures))) == (AgentState.OK, "")


def test_an_agent_that_flaps_stays_hot_and_one_that_has_cooled_does_not():
    assert state(said(*[cpu(0.95), cpu(0.0)] * 50))[0] is AgentState.HOT
    assert state(said(cpu(0.95), cpu(0.3)))[0] is AgentState.HOT
    assert state(said(cpu(0.95), cpu(0.3), cpu(0.3)))[0] is AgentState.OK


def test_after_a_silence_an_agent_is_believed_anew():
    reports = lost(said(cpu(1.0)))
    reports.heard(WEB_A, cpu(0.1), 60.0, 0.001)
    assert reports.look(*WEB_A, 60.0).report == cpu(0.1)
    assert state(reports, 60.0)[0] is AgentState.OK


DRAIN, MAINT = (Report(administrative=wish) for wish in (Administrative.DRAIN, Administrative.MAINT))
DOWN = Report(operating=Operating.DOWN, note="disk full")


@pytest.mark.parametrize(
    ("report", "shown", "wish"),
    [
        (DRAIN, (AgentState.DRAIN, ""), Wish(0)),
        (MAINT, (AgentState.MAINT, ""), Wish(0)),
        (Report(weight=0.0), (AgentState.DRAIN, ""), Wish(0)),
        (DOWN, (AgentState.DOWN, "disk full"), Wish(down=True)),
        (Report(operating=Operating.STOPPED), (AgentState.DOWN, "stopped"), Wish(down=True)),
        (Report(operating=Operating.FAIL, note="why"), (AgentState.DOWN, "fail: why"), Wish(down=True)),
        (Report(), (AgentState.OK, ""), Wish()),
    ],
)
def test_states_are_believed_at_once(report: Report, shown: tuple[AgentState, str], wish: Wish):
    reports = said(Report(), report)
    assert state(reports) == shown
    assert wished(reports) == wish


@pytest.mark.parametrize("worse", [DRAIN, MAINT, DOWN, Report(weight=0.0)])
def test_the_way_back_is_believed_when_it_was_said_twice(worse: Report):
    well = Report(weight=1.0)
    assert state(said(worse, well))[0] is not AgentState.OK
    assert state(said(worse, well, well))[0] is AgentState.OK
    assert state(said(*[worse, well] * 20))[0] is not AgentState.OK


def test_that_a_service_is_down_takes_no_drain_back_and_a_drain_nothing_of_that():
    assert wished(said(DRAIN, DOWN)) == Wish(0, down=True)
    reports = said(DOWN, DRAIN)
    assert wished(reports) == Wish(0, down=True)
    assert state(reports) == (AgentState.DOWN, "disk full")


def test_each_of_the_two_must_be_taken_back_twice_in_a_row():
    down = Report(operating=Operating.DOWN)
    assert state(said(DRAIN, down, Report()))[0] is AgentState.DOWN
    assert state(said(DRAIN, down, Report(), Report()))[0] is AgentState.OK


LINES = AgentCheck(7077, protocol="tcp", interval=2.0, timeout=1.0)


def heard(*lines: bytes) -> Reports:
    reports = kept(LINES)
    for now, line in enumerate(lines):
        reports.heard_line(WEB_A, parse(line), float(now), 0.001)
    return reports


@pytest.mark.parametrize(
    ("lines", "share"),
    [
        ([b"up\n"], 1.0),
        ([b"75%\n"], 0.75),
        ([b"75%\n", b"78%\n"], 0.75),
        ([b"75%\n", *[b"80%\n"] * 4], 0.75),
        ([b"75%\n", *[b"80%\n"] * 5], 0.8),
        ([b"10%\n", b"100%\n", b"60%\n", b"90%\n", b"80%\n", b"70%\n"], 0.6),
        ([b"75%\n", *[b"80%\n"] * 4, b"77%\n", b"80%\n"], 0.75),
        ([b"10%\n", *[b"100%\n", b"10%\n"] * 20, b"100%\n"], 0.1),
        ([b"10%\n", *[b"100%\n"] * 5, b"10%\n"], 0.1),
        ([b"95%\n", b"90%\n"], 0.9),
        ([b"97%\n", *[b"100%\n"] * 5], 1.0),
        ([b"5%\n", b"1%\n"], 0.01),
        ([b"0%\n", b"3%\n"], 0.0),
        ([b"0%\n", b"3%\n", b"3%\n"], 0.03),
        ([b"75%\n", b"0%\n"], 0.0),
        ([b"75%\n", b"drain\n"], 0.0),
        ([b"75%\n", b"drain\n", b"ready\n", b"ready\n"], 0.75),
        ([b"200%\n"], 1.0),
        ([b"25600%\n", b"40%\n", *[b"25600%\n"] * 5], 1.0),
    ],
)
def test_what_part_of_its_weight_a_backend_wants(lines: list[bytes], share: float):
    assert wished(heard(*lines), float(len(lines))) == Wish(share)


def test_without_a_word_that_counts_it_is_all_of_it():
    assert wished(kept(LINES)) == Wish()
    assert wished(lost(heard(b"75%\n"))) == Wish()


def test_what_an_agent_of_ours_tells_haproxy_is_not_for_us():
    assert wished(said(Report(weight=0.5))) == Wish()


BUSY = Figures(cpu=0.95)


@pytest.mark.parametrize(
    ("report", "shown", "hot"),
    [
        (Report(), AgentState.OK, False),
        (DRAIN, AgentState.DRAIN, False),
        (Report(BUSY), AgentState.HOT, True),
        (DOWN, AgentState.DOWN, False),
        (Report(BUSY, operating=Operating.STOPPED), AgentState.DOWN, True),
        (Report(BUSY, Administrative.DRAIN), AgentState.DRAIN, True),
        (Report(BUSY, Administrative.MAINT), AgentState.MAINT, True),
    ],
)
def test_worse_news_than_a_figure_over_its_limit_cools_nobody(report: Report, shown: AgentState, hot: bool):
    reports = said(Report(), report)
    assert state(reports)[0] is shown
    assert reports.is_hot(*WEB_A, 0.0) is hot
    assert not lost(reports).is_hot(*WEB_A, 0.0), "stale"


def test_a_stale_wish_is_no_wish():
    assert wished(lost(said(DRAIN, DOWN))) == Wish()


def test_lines_change_what_they_say():
    reports = kept()
    for now, line in enumerate([b"up ready 100%\n", b"drain\n", b"50%\n"]):
        reports.heard_line(WEB_A, parse(line), float(now), 0.001)
    assert reports.look(*WEB_A, 2.0).report == Report(administrative=Administrative.DRAIN, weight=0.5)


def test_a_clock_that_jumps_back_does_no_harm():
    reports = said(cpu(0.5))
    reports.heard(WEB_A, cpu(0.4), -1000.0, 0.001)
    sight = reports.look(*WEB_A, -2000.0)
    assert sight is not None
    assert (sight.age, sight.report) == (0.0, cpu(0.5))


def test_what_is_known_stays_until_another_agent_is_asked():
    reports = said(cpu(0.95))
    reports.update({WEB_A: AgentCheck(7077, key="/key", interval=0.5, cpu_limit=0.99), ("web", B): AGENT})
    assert reports.look(*WEB_A, 0.0).report == cpu(0.95)
    reports.update({WEB_A: AgentCheck(7078, key="/key")})
    assert state(reports) == (AgentState.UNASKED, "")
    reports.update({})
    reports.heard(WEB_A, cpu(0.5), 0.0, 0.001)
    assert reports.look(*WEB_A, 0.0) is None
