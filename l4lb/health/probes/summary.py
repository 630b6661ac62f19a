"""What several probes of one backend came to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from l4lb.health.probes.result import Outcome, ProbeResult


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts, and the round trips of those that were answered, in seconds; None if none was."""

    sent: int
    answered: int
    refused: int
    wrong: int
    lost: int
    unsent: int
    packets: int
    minimum: float | None
    median: float | None
    maximum: float | None


def summary(results: Sequence[ProbeResult]) -> Summary:
    """Count and compare."""
    outcomes = [result.outcome for result in results]
    times = [
        result.round_trip
        for result in results
        if result.outcome is Outcome.ANSWERED and result.round_trip is not None
    ]
    return Summary(
        sent=len(results) - outcomes.count(Outcome.UNSENT),
        answered=outcomes.count(Outcome.ANSWERED),
        refused=outcomes.count(Outcome.REFUSED),
        wrong=outcomes.count(Outcome.WRONG),
        lost=outcomes.count(Outcome.LOST),
        unsent=outcomes.count(Outcome.UNSENT),
        packets=sum(result.packets for result in results),
        minimum=min(times, default=None),
        median=median(times) if times else None,
        maximum=max(times, default=None),
    )
