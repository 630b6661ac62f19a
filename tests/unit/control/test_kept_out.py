"""The log lines of backends that their agents keep out of the choice, and since when they do."""

from __future__ import annotations

import logging

from l4lb.control.kept_out import KeptOut
from l4lb.health.agents.reports import AgentState, Sight
from l4lb.model import Endpoint

A, B = (("web", Endpoint.parse(f"10.2.0.1{n}:80")) for n in (1, 2))
OK, MAINT = Sight(AgentState.OK), Sight(AgentState.MAINT, share=0.0)
DOWN = Sight(AgentState.DOWN, "disk full")
HALF = Sight(AgentState.OK, share=0.5)


def lines(caplog, *plans):
    """Of plans that come one a second, each as what agents say and who is chosen."""
    kept_out = KeptOut()
    with caplog.at_level(logging.INFO):
        for now, (sights, chosen) in enumerate(plans):
            kept_out.note(sights, chosen, float(now))
    return kept_out, [(record.levelname, record.getMessage()) for record in caplog.records]


def test_each_change_is_said_once_and_since_when_is_kept(caplog):
    out = ({A: MAINT, B: OK}, {B})
    kept_out, said = lines(caplog, ({A: OK, B: HALF}, {A, B}), out, out)
    assert (kept_out.since(A), kept_out.since(B)) == (1.0, None)
    assert said == [("INFO", "backend web 10.2.0.11:80 gets no new connections, by its agent: maint")]


def test_a_way_back(caplog):
    stale = Sight(AgentState.STALE, "ignored, 12 s old")
    kept_out, said = lines(caplog, ({A: DOWN, B: MAINT}, ()), ({A: stale, B: OK}, {A, B}))
    assert kept_out.since(A) is kept_out.since(B) is None
    assert said == [
        ("WARNING", "backend web 10.2.0.11:80 gets no new connections, by its agent: down: disk full"),
        ("INFO", "backend web 10.2.0.12:80 gets no new connections, by its agent: maint"),
        (
            "INFO",
            "backend web 10.2.0.11:80 may have new connections, by its agent: stale: ignored, 12 s old",
        ),
        ("INFO", "backend web 10.2.0.12:80 may have new connections, by its agent: ok"),
    ]


def test_those_that_go_on_as_no_other_does(caplog):
    all_down = ({A: DOWN, B: DOWN}, {A, B})
    kept_out, said = lines(caplog, ({A: DOWN, B: OK}, {B}), all_down, all_down, ({A: OK, B: DOWN}, {A}))
    assert (kept_out.since(A), kept_out.since(B)) == (None, 3.0)
    against = "gets new connections as no other does, against its agent: down: disk full"
    assert said[1:] == [
        ("WARNING", f"backend web 10.2.0.11:80 {against}"),
        ("WARNING", f"backend web 10.2.0.12:80 {against}"),
        ("INFO", "backend web 10.2.0.11:80 may have new connections, by its agent: ok"),
        ("WARNING", "backend web 10.2.0.12:80 gets no new connections, by its agent: down: disk full"),
    ]


def test_of_one_that_is_gone_nothing_is_said(caplog):
    kept_out, said = lines(caplog, ({A: MAINT}, ()), ({}, ()))
    assert kept_out.since(A) is None
    assert len(said) == 1
