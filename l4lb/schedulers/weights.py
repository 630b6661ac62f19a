"""From weights to whole slots: how many each gets, and in which order they take them."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import gcd
from typing import Final

MAX_SLOTS: Final = 4096
"""Slots of a proportional table, at most, up to 1024 backends."""

SLOTS_PER_BACKEND: Final = 4
"""Beyond 1024 backends the limit grows with them, so that unequal weights still differ."""


def slot_counts(weights: Sequence[int]) -> list[int]:
    """Slots in proportion to positive weights, as few as the weights allow.

    Exact, weight / gcd each, while that makes at most ``max(MAX_SLOTS, SLOTS_PER_BACKEND * n)``
    slots. Beyond it the slots of the limit are shared out by largest remainder, with at least
    one each: a weight that is not 0 must not mean "never". The share of a backend is then off by
    less than one slot, more only to pay for backends owed less than one.
    """
    limit = max(MAX_SLOTS, SLOTS_PER_BACKEND * len(weights))
    counts = _reduced(weights)
    if sum(counts) > limit:
        counts = _reduced(_largest_remainder(counts, limit))
    return counts


def _reduced(numbers: Sequence[int]) -> list[int]:
    divisor = gcd(*numbers)
    return [number // divisor for number in numbers]


def _largest_remainder(weights: Sequence[int], seats: int) -> list[int]:
    """Hamilton's method after one seat each; needs more seats than weights.

    What a weight is owed beyond its first seat is kept multiplied by the sum of the weights, so
    that everything stays whole.
    """
    total = sum(weights)
    owed = [max(0, weight * seats - total) for weight in weights]
    all_owed = sum(owed)
    spare = seats - len(weights)
    counts, remainders = [], []
    for share in owed:
        count, remainder = divmod(share * spare, all_owed)
        counts.append(1 + count)
        remainders.append(remainder)
    by_remainder = sorted(range(len(weights)), key=lambda position: -remainders[position])
    for position in by_remainder[: seats - sum(counts)]:
        counts[position] += 1
    return counts


def turns(weights: Sequence[int]) -> Iterator[int]:
    """Positions in ``weights``, for ever, each as often as its weight says and evenly spread.

    Weight w has its turn k (0, 1, ...) at time (k + 1/2) / w: Webster's (Sainte-Lague) method,
    which rounds shares to the nearest whole number of turns wherever one stops. Which of two
    turns comes first depends on their two weights alone, so the coming and going of others never
    reorders them. At the same time the lighter goes first, then the one given first.
    """
    positions = defaultdict(list)
    for position, weight in enumerate(weights):
        positions[weight].append(position)
    # Equal weights have their turns together: the heap holds distinct weights only. The times
    # are doubled, which leaves odd numbers over w.
    heap = [(1 / weight, weight, 1) for weight in positions]
    heapq.heapify(heap)
    while True:
        _, weight, odd = heap[0]
        yield from positions[weight]
        heapq.heapreplace(heap, ((odd + 2) / weight, weight, odd + 2))
