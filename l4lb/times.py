"""Times as a count, a sum and a histogram, in all datapaths alike.

Buckets are four to an octave (as HdrHistogram with two bits), so a quantile is off by less than 10%. They
begin at one unit of 4,096 ns, which a right shift makes of nanoseconds, and end with 34 s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, compress
from typing import Final

from l4lb.model import Times

UNIT: Final = 4_096e-9
"""Seconds; ``TIME_UNIT`` of datapath/bpf/layout.h."""

LONGEST: Final = ((1 << 29) - 1) * UNIT
"""Seconds, 37 minutes: what is longer counts in the average as this. The programs keep eight times the
average, in 32 bits (``LONGEST_AVERAGED``)."""

_OCTAVES: Final = 22
BUCKETS: Final = 4 * _OCTAVES


def bucket_of(units: int) -> int:
    """The bucket of a time in units, 0 or more; the last one has all that is longer."""
    if units < 4:
        return units
    octave = units.bit_length() - 1
    return min(4 * (octave - 1) + (units >> octave - 2 & 3), BUCKETS - 1)


def upper_bound(bucket: int) -> float:
    """Where a bucket ends, seconds: below it are the times in it."""
    if bucket < 4:
        return (bucket + 1) * UNIT
    octave, quarter = bucket // 4 + 1, bucket % 4
    return (5 + quarter) * (1 << octave - 2) * UNIT


_ENDS: Final = tuple(f"{upper_bound(bucket):.6f}" for bucket in range(BUCKETS))


def by_end(times: Times) -> dict[str, int]:
    """The buckets that have something in them, by where they end in seconds: what JSON can carry."""
    return dict(compress(zip(_ENDS, times.buckets, strict=False), times.buckets))


def from_ends(ends: Mapping[str, int]) -> tuple[int, ...]:
    """The buckets that ``by_end`` was told of; empty if nothing was in them."""
    if not ends:
        return ()
    buckets = [0] * BUCKETS
    for end, count in ends.items():
        buckets[bucket_of(round(float(end) / UNIT) - 1)] = count
    return tuple(buckets)


class Stopwatch:
    """Counts times as they are taken."""

    __slots__ = ("average", "buckets", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0  # seconds
        self.average = 0.0  # seconds, as RFC 6298 2.3 smooths round trips
        self.buckets = [0] * BUCKETS

    def took(self, seconds: float) -> None:
        """One more."""
        averaged = min(seconds, LONGEST)
        self.average = self.average + (averaged - self.average) / 8 if self.count else averaged
        self.count += 1
        self.total += seconds
        self.buckets[bucket_of(int(seconds / UNIT))] += 1

    def read(self) -> Times:
        """All there have been."""
        return Times(self.count, self.total, self.average, tuple(self.buckets) if self.count else ())


def quantile(times: Times, share: float) -> float | None:
    """The time, seconds, that ``share`` of all did not exceed, 0 to 1; None without any. It is where the
    bucket ends, so up to a quarter too much and never too little."""
    seen = tuple(accumulate(times.buckets))
    bucket = bisect_left(seen, max(1, share * times.count))
    return upper_bound(bucket) if bucket < len(seen) else None


def since(now: Times, before: Times) -> Times:
    """What has come to ``before``; all of ``now`` if it counts anew since."""
    if before.count > now.count or not before.count:
        return now
    if before.count == now.count:
        return Times()
    buckets = tuple(new - old for new, old in zip(now.buckets, before.buckets, strict=True))
    if min(buckets) < 0:
        return now
    return Times(now.count - before.count, max(0.0, now.total - before.total), now.average, buckets)


def added(several: Sequence[Times]) -> Times:
    """All of them together."""
    filled = [each for each in several if each.count]
    if len(filled) < 2:
        return filled[0] if filled else Times()
    count = sum(each.count for each in filled)
    return Times(
        count,
        sum(each.total for each in filled),
        sum(each.average * each.count for each in filled) / count,
        tuple(map(sum, zip(*(each.buckets for each in filled), strict=True))),
    )
