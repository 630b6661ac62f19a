"""How the waits between restarts grow."""

from __future__ import annotations

from l4lb.backoff import Backoff


def test_the_first_restart_is_at_once_and_waits_double_up_to_the_longest():
    backoff = Backoff(first=1.0, longest=5.0)
    assert [backoff.after_run(0.0) for _ in range(6)] == [0.0, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_run_that_lasted_starts_over():
    backoff = Backoff(first=1.0, longest=5.0, lasting=60.0)
    backoff.after_run(0.0)
    backoff.after_run(0.0)
    assert backoff.after_run(59.0) == 2.0
    assert backoff.after_run(60.0) == 0.0
    assert backoff.after_run(0.0) == 1.0
