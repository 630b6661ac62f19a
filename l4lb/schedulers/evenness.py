"""Giving back what chance has taken: shares of the new connections among backends that are alike. Pure.

Two or three requests at a time say little, so now and then a good backend is taken for a slow one, and
misses the connections of a second or two. That shows afterwards, in its share: one that is slow misses
most of what it would have, one that was unlucky a tenth. So who has had a little less than is usual is
charged less, until it has that back, and who has had a little more is charged more.

A share is in parts of the usual one, which is that of the backend in the middle, each for its weight: 1 is
as much as is usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low
from typing import Final

GAIN: Final = 3.0
"""Parts by which a backend becomes dearer for each part that its share is larger. In 120 runs of 19 s of
five that are alike, the one farthest from an even share was 4.4% from it in the middle run, 8% in one of
ten, 11% in the worst; without, 11%, 18% and 24%. With more not much is gained, and who is a little faster
than others is kept from what it is worth."""

UNLIKE: Final = 0.6
"""A share that is this far from the usual one is not so by chance: nothing is made up for."""

EASING: Final = 0.6
"""Parts by which that becomes less for each part that a share is nearer to being so far off: 1.3 times
dearer at most. With more, a backend that is faster than others would have two shares at which it can stay:
what it has times what it is charged for it must always grow with what it has."""

GRAIN: Final = 0.01
"""Shares that differ by less are the same and take turns, and a datapath is told of a hundredth, not of
each connection."""


def shares(opened: Sequence[float], weights: Sequence[int]) -> list[float]:
    """Of backends that have had so many connections of late, in the same order; at least one, all of
    positive weight. Where that in the middle has had none, all are usual."""
    had = [count / weight for count, weight in zip(opened, weights, strict=True)]
    usual = median_low(had)
    return [round(each / usual / GRAIN) * GRAIN if usual > 0 else 1.0 for each in had]


def times(share: float) -> float:
    """How many times dearer a backend is for having had this share: 0.7 to 1.3."""
    off = abs(share - 1)
    change = max(0.0, min(GAIN * off, EASING * (UNLIKE - off)))
    return 1 + change if share > 1 else 1 - change
