"""Rise and fall: from the results of a backend's checks to its health. Pure: results in, health out.

The rules, with those of HAProxy's ``rise`` and ``fall`` (its manual, 5.2; ``src/check.c``):

    state     leaves for   when
    unknown   up           the first check passes
    unknown   down         ``fall`` checks in a row fail
    up        down         ``fall`` checks in a row fail
    down      up           ``rise`` checks in a row pass

*Unknown* is usable until a check fails: a backend just added is assumed to work, and a wrong assumption
lasts one check and not ``fall`` of them. It is not down either: after a restart the backend may have
connections, and one check that got lost is no reason to reset them.

A check that could not be made (the gateway itself ran out of file descriptors, say) tells nothing of
the backend and moves nothing. HAProxy counts it as a failure; here that would take every backend of
every service down for a fault of the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum


class HealthState(str, Enum):
    """What the checks of a backend have shown."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Outcome(Enum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"  # it could not be made: says nothing of the backend


@dataclass(frozen=True, slots=True)
class Result:
    """One check: its outcome, why it did not pass, and how long the answer took."""

    outcome: Outcome
    reason: str = ""  # empty if it passed
    latency: float | None = None  # seconds; None if it did not pass
    packets: int = field(default=0, compare=False)  # that it caused, in both directions


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a backend. Times are seconds on the clock that ``now`` comes from."""

    state: HealthState
    since: float  # when the state was entered
    reason: str = ""  # why the last check did not pass; while down it stays until the backend is up
    streak: int = 0  # checks in a row that speak against the state
    last_check: float | None = None  # when the last check ended
    latency: float | None = None  # seconds the last check's answer took; None if it did not pass
    passed: float | None = None  # when the last check that passed ended; None: none has

    @property
    def usable(self) -> bool:
        """True if new connections may go to the backend: it is up, or nothing is known against it."""
        return self.state is HealthState.UP or (self.state is HealthState.UNKNOWN and not self.streak)

    @property
    def against(self) -> str:
        """Why new connections may not go to it; empty if they may."""
        if self.usable:
            return ""
        return f"{'down' if self.state is HealthState.DOWN else 'no check has passed yet'}: {self.reason}"


def initial(now: float) -> Health:
    """The health of a backend that was never checked."""
    return Health(HealthState.UNKNOWN, now, "not checked yet")


def advance(health: Health, result: Result, *, rise: int, fall: int, now: float) -> Health:
    """The health after one more check.

    Args:
        health: what was known before.
        result: how the check ended.
        rise: checks in a row that must pass to bring the backend up, at least 1.
        fall: checks in a row that must fail to take it down, at least 1.
        now: when the check ended.
    """
    if result.outcome is Outcome.UNDECIDED:
        return replace(health, reason=result.reason, last_check=now, latency=None)

    shown = HealthState.UP if result.outcome is Outcome.PASSED else HealthState.DOWN
    if health.state is HealthState.UNKNOWN:
        needed = 1 if shown is HealthState.UP else fall
    else:
        needed = fall if shown is HealthState.DOWN else rise
    streak = 0 if shown is health.state else health.streak + 1
    turned = streak >= needed
    state = shown if turned else health.state

    if result.outcome is Outcome.FAILED:
        reason = result.reason
    else:
        reason = health.reason if state is HealthState.DOWN else ""
    return Health(
        state=state,
        since=now if turned else health.since,
        reason=reason,
        streak=0 if turned else streak,
        last_check=now,
        latency=result.latency,
        passed=now if result.outcome is Outcome.PASSED else health.passed,
    )
