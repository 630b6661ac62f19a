"""Giving back what chance has taken: shares of the new connections among backends that are alike. Pure.

Two or three requests at a time say little, so now and then a good backend is taken for a slow one, and
misses the connections of a second or two. That shows afterwards, in its share: one that is slow misses
most of what it would have, one that was unlucky a tenth. So who has had a little less than is usual is
charged less, until it has that back, and who has had a little more is charged more.

A share is in parts of the usual one, which is that of the backend in the middle, each for its weight: 1 is
as much as is usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median_low
from typing import Final, TypeVar

GAIN: Final = 3.0
"""Parts by which a backend becomes dearer for each part that its share is larger. In 120 runs of 19 s of
five that are alike, the one farthest from an even share was 4% from it in the middle run, 8% in one of ten,
15% in the worst; without, 11%, 18% and 24%. With more not much is gained, and who is a little faster
than others is kept from what it is worth."""

UNLIKE: Final = 0.6
"""A share that is this far from the usual one is not so by chance: nothing is made up for."""

EASING: Final = 0.6
"""Parts by which that becomes less for each part that a share is nearer to being so far off: 1.3 times
dearer at most. With more, a backend that is faster than others would have two shares at which it can stay:
what it has times what it is charged for it must always grow with what it has."""

LARGEST: Final = 2.0
"""A larger share than that is told as that."""

GRAIN: Final = 0.01
"""Shares that differ by less are the same and take turns, and a datapath is told of a hundredth, not of
each connection."""


T = TypeVar("T")


def shares(had: Mapping[T, float]) -> dict[T, float]:
    """Of backends that have had so many connections of late, each for its weight."""
    usual = median_low(had.values()) if had else 0.0
    return {one: _share(count, usual) for one, count in had.items()}


def _share(count: float, usual: float) -> float:
    """What fades comes as near to 0 as a number can, and a quotient by that is too large for one."""
    if count == usual:
        return 1.0
    return LARGEST if count >= LARGEST * usual else round(count / usual / GRAIN) * GRAIN


def times(share: float) -> float:
    """How many times dearer a backend is for having had this share: 0.7 to 1.3."""
    off = abs(share - 1)
    change = max(0.0, min(GAIN * off, EASING * (UNLIKE - off)))
    return 1 + change if share > 1 else 1 - change
