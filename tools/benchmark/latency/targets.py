"""What l4lb's adaptive scheduler is to reach in the scenes, and whether it did. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from statistics import median
from typing import Final

from benchmark.figures.statistics import ratios
from benchmark.figures.target import Target
from benchmark.latency.balancers import OURS
from benchmark.latency.runs import Run

_P99: Final = {
    "alike": 1.05,
    "slow": 0.5,
    "bursts": 0.7,
    "bursts-begun": 0.7,
    "stall": 1.05,
    "recovery": 1.0,
    "alike-keepalive": 1.0,
    "slow-keepalive": 1.0,
    "bursts-keepalive": 1.0,
    "bursts-begun-keepalive": 1.0,
    "stall-keepalive": 1.0,
    "recovery-keepalive": 1.0,
}
"""The largest ratio of its 99th percentile to that of the best peer."""

_DEVIATION: Final = 0.15
_RECOVERY: Final = 5.0  # seconds
_AVOIDED: Final = 2.0  # seconds
_PROBES: Final = 0.001  # packets of probes for each packet forwarded, under traffic


def best_peer(runs: Sequence[Run]) -> str | None:
    """Whose median 99th percentile is the least of those other than ours, in one scene."""
    peers = {run.balancer for run in runs if run.balancer != OURS}
    return min(sorted(peers), key=lambda peer: median(_each(runs, peer, _p99).values()), default=None)


def targets(runs: Sequence[Run]) -> list[Target]:
    """All targets; open where ours or all peers are missing.

    Ratios are taken within a round, whose requests are the same ones, and the median of them counts.
    """
    rows = []
    for scene, limit in _P99.items():
        played = [run for run in runs if run.scene == scene]
        best = best_peer(played)
        ours, theirs = _each(played, OURS, _p99), _each(played, best, _p99)
        title = f"{scene}: p99 / {best or 'best peer'}"
        rows.append(Target(title, "at most", limit, "", _median(ratios(ours, theirs))))
        match scene:
            case "alike":
                value = _median(_each(played, OURS, lambda run: run.deviation).values())
                rows.append(Target(f"{scene}: shares from even", "at most", _DEVIATION, "", value))
            case "stall":
                title = f"{scene}: requests lost, more than {best or 'best peer'}"
                lost, least = _each(played, OURS, _lost), _each(played, best, _lost)
                more = [count - least[number] for number, count in lost.items() if number in least]
                rows.append(Target(title, "at most", 0.0, "", _median(more)))
            case "recovery":
                times = _each(played, OURS, _recovery).values()
                title = f"{scene}: until 80% of its share is back"
                rows.append(Target(title, "at most", _RECOVERY, "s", _median(times)))
        probes = [run.probes for run in played if run.balancer == OURS and run.probes is not None]
        title = f"{scene}: probe packets, % of those forwarded"
        rows.append(Target(title, "at most", 100 * _PROBES, "%", _median(100 * part for part in probes)))
    avoided = _each([run for run in runs if run.scene == "agents"], OURS, _avoided).values()
    title = "agents: until new connections avoid a busy one"
    return [*rows, Target(title, "at most", _AVOIDED, "s", _median(avoided))]


def _each(runs: Sequence[Run], balancer: str | None, figure: Callable[[Run], float]) -> dict[int, float]:
    return {run.round: figure(run) for run in runs if run.balancer == balancer}


def _p99(run: Run) -> float:
    return run.p99


def _lost(run: Run) -> float:
    return run.lost


def _recovery(run: Run) -> float:
    return inf if run.recovery is None else run.recovery


def _avoided(run: Run) -> float:
    return inf if run.avoided is None else run.avoided


def _median(values: Iterable[float]) -> float | None:
    seen = list(values)
    return median(seen) if seen else None
