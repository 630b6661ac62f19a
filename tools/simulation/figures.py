"""What is read off the logs of a scene under one policy, all seeds together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmark.figures.requests import deviation, percentile
from simulation.clients import Log
from simulation.scenes import WARM_UP, onset

BIN = 0.1
"""Seconds: the grain of shares over time."""

WINDOW = 5
"""Bins over which a share is taken: half a second."""

RECOVERED = 0.8
"""Of an even share: the one who was slow is back."""

AVOIDED = 0.2
"""Of an even share: the one who became slow is avoided."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Latencies and times in seconds; shares in parts of an even one."""

    p50: float
    p90: float
    p99: float
    requests: int
    lost: int  # requests that were never answered
    failed: int  # attempts that were not
    uneven: float  # how far the backend farthest from an even share is from it
    recovered: float | None  # from the change on until the first backend has its share again
    avoided: float | None  # or until it hardly gets anything
    shares: tuple[float, ...]  # of the first backend, over the half second that ends with each bin


def figures(logs: Sequence[Log], backends: int, seconds: float) -> Figures:
    """Of at least one log. Latencies and the evenness leave the warm-up out."""
    latencies = [
        latency
        for log in logs
        for began, latency in zip(log.began, log.latency, strict=True)
        if began >= WARM_UP
    ]
    counts = [0] * backends
    bins = round(seconds / BIN)
    first, everyone = [0] * (bins + 1), [0] * (bins + 1)
    for log in logs:
        for asked, backend in zip(log.asked, log.asked_of, strict=True):
            if asked >= seconds:
                continue  # tried again when nobody came any more
            counts[backend] += asked >= WARM_UP
            everyone[int(asked / BIN)] += 1
            first[int(asked / BIN)] += backend == 0
    shares = _sliding_shares(first[:bins], everyone[:bins], backends)
    change = round(onset(seconds) / BIN)
    return Figures(
        p50=percentile(latencies, 0.5),
        p90=percentile(latencies, 0.9),
        p99=percentile(latencies, 0.99),
        requests=len(latencies),
        lost=sum(log.lost for log in logs),
        failed=sum(len(log.failed) for log in logs),
        uneven=deviation(counts),
        recovered=_first(shares, change, lambda share: share >= RECOVERED),
        avoided=_first(shares, change, lambda share: share <= AVOIDED),
        shares=tuple(shares),
    )


def _sliding_shares(one: Sequence[int], all_of_them: Sequence[int], backends: int) -> list[float]:
    shares = []
    for end in range(1, len(one) + 1):
        begin = max(0, end - WINDOW)
        total = sum(all_of_them[begin:end])
        shares.append(backends * sum(one[begin:end]) / total if total else 0.0)
    return shares


def _first(shares: Sequence[float], change: int, holds: Callable[[float], bool]) -> float | None:
    """Seconds from the change to the end of the first window for which it holds."""
    for end, share in enumerate(shares[change:]):
        if holds(share):
            return (end + 1) * BIN
    return None
