"""The log lines of backends that come up and go down."""

from __future__ import annotations

import logging

from l4lb.control.health_log import HealthLog
from l4lb.health.rise_fall import Health, HealthState
from l4lb.model import Counters, Endpoint, Traffic

A, B = Endpoint.parse("10.2.0.12:80"), Endpoint.parse("10.2.0.13:80")
COUNTERS = Counters(
    {("web", A): Traffic(half_open=2, established=10), ("web", B): Traffic(established=1)}, {}, {}
)


def lines(caplog, transitions, counters):
    waiting = HealthLog()
    for transition in transitions:
        waiting.note(*transition)
    with caplog.at_level(logging.INFO):
        waiting.write(counters)
        waiting.write(counters)  # each line once
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def down(backend, reason, passed=None):
    return ("web", backend, Health(HealthState.DOWN, 107.5, reason, last_check=107.5, passed=passed))


def test_down_says_why_since_when_and_what_it_held(caplog):
    refused, silent = down(A, "connection refused", passed=101.3), down(B, "timeout")
    assert lines(caplog, [refused, silent], COUNTERS) == [
        (
            "WARNING",
            "backend web 10.2.0.12:80 is down: connection refused; no check has passed for 6.2 s "
            "(held 12 connections)",
        ),
        (
            "WARNING",
            "backend web 10.2.0.13:80 is down: timeout; no check has passed yet (held 1 connection)",
        ),
    ]


def test_down_without_counters(caplog):
    assert lines(caplog, [down(A, "timeout", passed=102.5)], None) == [
        ("WARNING", "backend web 10.2.0.12:80 is down: timeout; no check has passed for 5.0 s")
    ]


def test_one_that_has_never_passed_gets_no_new_connections_and_keeps_what_it_holds(caplog):
    failed = Health(HealthState.UNKNOWN, 100.0, "timeout", streak=1, last_check=101.0)
    assert lines(caplog, [("web", A, failed)], None) == [
        ("WARNING", "backend web 10.2.0.12:80 gets no new connections: no check has passed yet: timeout")
    ]


def test_up(caplog):
    assert lines(caplog, [("web", A, Health(HealthState.UP, 0.0))], None) == [
        ("INFO", "backend web 10.2.0.12:80 is up")
    ]


def test_only_those_that_went_down_make_connections_interesting():
    waiting = HealthLog()
    waiting.note("web", A, Health(HealthState.UP, 0.0))
    assert not waiting.concerns_connections
    waiting.note(*down(B, "timeout"))
    assert waiting.concerns_connections
