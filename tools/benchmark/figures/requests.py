"""Figures of many requests. Pure, and without imports of the benchmark: its servers and ``tools/simulate``
use it, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

WINDOW = 2.0
"""Seconds over which a share is taken. At 120 requests/s a fifth is 48 of them, give or take 6."""


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the values that at least ``share`` of them (0 to 1) do not exceed.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def deviation(counts: Sequence[int]) -> float:
    """How far the count that is furthest from even is away from it, as a share of even.

    0 is even; 1 is a backend that got nothing, or twice its share.
    """
    even = sum(counts) / len(counts)
    return max(abs(count - even) for count in counts) / even if even else 0.0


def settled(
    times: Sequence[float], chosen: Sequence[bool], since: float, holds: Callable[[float], bool]
) -> float | None:
    """How long it took until a backend had the share that it should have, in seconds; None: it never did.

    Args:
        times: when each request came, in order.
        chosen: whether it went to the backend.
        since: from when on.
        holds: whether a share of all requests (0 to 1) is as it should be.

    Returns:
        From ``since`` to the beginning of the first ``WINDOW`` in which it had such a share.
    """
    first = next((place for place, time in enumerate(times) if time >= since), len(times))
    end, hits = first, 0
    for begin in range(first, len(times)):
        while end < len(times) and times[end] < times[begin] + WINDOW:
            hits += chosen[end]
            end += 1
        if end == len(times):  # what follows is not a whole window
            return None
        if holds(hits / (end - begin)):
            return times[begin] - since
        hits -= chosen[begin]
    return None


def avoided(times: Sequence[float], chosen: Sequence[bool], since: float, most: float) -> float | None:
    """How long it took until a backend was avoided, in seconds; None: it never was.

    Args:
        times, chosen, since: see ``settled``.
        most: the share of all requests (0 to 1) that a backend has which is avoided.

    Returns:
        From ``since`` to the last request that it got by the end of the first ``WINDOW`` in which it had
        no larger share: one that came late counts, even if it is the only one.
    """
    begin = settled(times, chosen, since, lambda share: share <= most)
    if begin is None:
        return None
    end = since + begin + WINDOW
    return max(
        (time - since for time, it in zip(times, chosen, strict=True) if it and since <= time < end),
        default=0.0,
    )
