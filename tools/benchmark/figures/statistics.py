"""How figures of a machine that is never quite still are compared. Pure.

A figure moves by a factor of two from minute to minute; two figures of the same minute do not. So
ratios are taken within a round, and what is reported is the median of the rounds' ratios with the
least and the largest beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmark.figures.metrics import METRICS, Measurement

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and how far the values reach from it."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]


Table = dict[str, dict[str, Spread]]
"""Metric -> peer -> spread over the rounds; without those that gave no figure."""


def spread(values: Iterable[float]) -> Spread:
    """The spread of at least one value.

    Raises:
        ValueError: there are no values.
    """
    seen = tuple(values)
    if not seen:
        raise ValueError("no values to take the median of")
    return Spread(statistics.median(seen), min(seen), max(seen), seen)


def rotated(names: Sequence[T], turn: int) -> list[T]:
    """The names in the order of round ``turn``, counted from 0.

    Each round begins one name further on, so that nobody is first each time.
    """
    start = turn % len(names) if names else 0
    return [*names[start:], *names[:start]]


def by_round(measurements: Iterable[Measurement], peer: str, metric: str) -> dict[int, float]:
    """Round -> value of a metric for one peer; rounds in which its load failed are left out."""
    return {it.round: it.values[metric] for it in measurements if it.peer == peer and metric in it.values}


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Ours divided by theirs, for each round that has both and where theirs is not 0."""
    return [value / theirs[number] for number, value in sorted(ours.items()) if theirs.get(number)]


def summary(measurements: Sequence[Measurement]) -> Table:
    """Every peer's figures."""
    table: Table = {}
    for metric in METRICS:
        for peer in dict.fromkeys(it.peer for it in measurements):
            if values := by_round(measurements, peer, metric.name).values():
                table.setdefault(metric.name, {})[peer] = spread(values)
    return table


def compared(measurements: Sequence[Measurement], us: str) -> Table:
    """The rounds' ratios of ``us`` to each other peer."""
    table: Table = {}
    for metric in METRICS:
        ours = by_round(measurements, us, metric.name)
        for peer in dict.fromkeys(it.peer for it in measurements if it.peer != us):
            if values := ratios(ours, by_round(measurements, peer, metric.name)):
                table.setdefault(metric.name, {})[peer] = spread(values)
    return table


def errors(measurements: Iterable[Measurement]) -> dict[str, int]:
    """All errors of all loads, "peer, load: what" -> how often."""
    total: dict[str, int] = {}
    for it in measurements:
        for what, count in it.errors.items():
            where = f"{it.peer}, {it.load}: {what}"
            total[where] = total.get(where, 0) + count
    return total
