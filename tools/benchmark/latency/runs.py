"""What one balancer did in one scene. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmark.figures.requests import avoided, deviation, percentile, settled
from benchmark.latency.generator import Answer
from benchmark.latency.observed import Observed
from benchmark.latency.pool import Report
from benchmark.latency.scenes import SERVERS, VICTIM, Scene

LATEST: Final = 0.02
"""Seconds by which 1% of requests or of answers may be late because this machine was busy, before a
run is not valid: a small part of what is measured, which is about 0.5."""

_STEP: Final = 0.5  # seconds of a point of the curve over time
_FAIR: Final = 0.8  # of an even share: a backend has it back
_AVOIDED: Final = 0.2  # of an even share: a backend has hardly anything


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one turn; times in seconds.

    A request that was lost counts as one that took as long as its clients wait at most, in all
    percentiles.

    Attributes:
        late: the 99th percentile of how late the generator was.
        late_answers: the same of the server that was the latest.
        requests: those that count.
        lost: of them, those without an answer.
        failures: tries that were in vain, why -> how often.
        shares: answers of each server.
        recovery: until the victim has its share again; None: never, or this is no such scene.
        avoided: until the victim, whose host is busy, hardly gets anything; None likewise.
        curve: time -> 99th percentile of the requests that came around then.
        probes: packets of probes for each packet forwarded; None: of balancers that do not count them.
        explained: what ``l4lb explain`` said in the middle of it; None of others.
    """

    round: int
    scene: str
    balancer: str
    late: float
    late_answers: float
    requests: int
    lost: int
    failures: dict[str, int]
    shares: tuple[int, ...]
    p50: float
    p90: float
    p99: float
    max: float
    recovery: float | None
    avoided: float | None
    curve: tuple[tuple[float, float], ...]
    probes: float | None
    explained: str | None

    @property
    def deviation(self) -> float:
        """Of the shares from even; 0.15 is 15% more or less than even."""
        return deviation(self.shares)

    @property
    def wrong(self) -> list[str]:
        """What makes the figures worthless."""
        late = {"the generator": self.late, "a server": self.late_answers}
        return [f"{who} was late, the machine is too busy" for who, time in late.items() if time > LATEST]


def evaluated(
    round: int,
    scene: Scene,
    balancer: str,
    names: Sequence[str],
    answers: Sequence[Answer],
    reports: Sequence[Report],
    said: Observed,
) -> Run:
    """The figures of a run.

    Args:
        round: which one, from 1 on.
        scene: what was played.
        balancer: whose turn it was.
        names: of the servers, in their order.
        answers: of the generator, in the order of their time; at least one that counts.
        reports: of the servers.
        said: by l4lb.
    """
    counted = [answer for answer in answers if answer.time >= 0]
    latencies = [answer.latency if answer.backend else scene.clients.longest for answer in counted]
    by_server = Counter(answer.backend for answer in counted)
    times = [answer.time for answer in counted]
    of_victim = [answer.backend == names[VICTIM] for answer in counted]
    return Run(
        round=round,
        scene=scene.name,
        balancer=balancer,
        late=percentile([answer.late for answer in answers], 0.99),
        late_answers=max(report.late for report in reports),
        requests=len(counted),
        lost=by_server[None],
        failures=dict(Counter(why for answer in counted for why in answer.failures)),
        shares=tuple(by_server[name] for name in names),
        p50=percentile(latencies, 0.5),
        p90=percentile(latencies, 0.9),
        p99=percentile(latencies, 0.99),
        max=max(latencies),
        recovery=None
        if scene.recovers is None
        else settled(times, of_victim, scene.recovers, lambda share: share >= _FAIR / SERVERS),
        avoided=None if scene.busy is None else avoided(times, of_victim, scene.busy, _AVOIDED / SERVERS),
        curve=_curve(times, latencies),
        probes=said.probes,
        explained=said.explained,
    )


def _curve(times: Sequence[float], latencies: Sequence[float]) -> tuple[tuple[float, float], ...]:
    pieces: dict[int, list[float]] = {}
    for time, latency in zip(times, latencies, strict=True):
        pieces.setdefault(int(time / _STEP), []).append(latency)
    return tuple(((piece + 0.5) * _STEP, percentile(it, 0.99)) for piece, it in sorted(pieces.items()))
