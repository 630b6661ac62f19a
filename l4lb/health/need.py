"""Which backend wants a probe most. Pure: standings and times in, keys out.

Each backend that traffic does not measure has a *turn*: the moment from which a probe of it is wanted. How
long after the last one that is depends on its standing, its *patience*. Of those whose turn has come,
the first is the one that is latest in units of its own patience. So a shunned backend is asked ten times
as often as an idle one whether there is much to spend or little, and nobody waits for ever: who waits gets
later, and who was asked begins anew.

Turns are jittered, so that backends which became idle together are not probed together.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from random import Random
from typing import Final, Generic, TypeVar

JITTER: Final = 0.1
"""Part of its patience by which a backend's turn may come sooner or later."""

FRESH_FOR: Final = 5.0
"""Seconds for which what traffic has shown of a backend is good: the time in which a server's load is seen
to change in the field (an antagonist's burst lasts seconds), and probes are not needed to see it sooner."""

STALE_FOR: Final = 60.0
"""Seconds after which a backend that gets no traffic is no longer between two connections but idle."""

RECOVERY: Final = 10.0
"""Seconds from when a backend came up in which its first figures are wanted quickly."""


class Standing(Enum):
    """Why, and how soon, a backend wants a probe."""

    FRESH = "fresh"  # traffic measures it: it wants none
    RECOVERING = "recovering"  # has just come up
    SHUNNED = "shunned"  # the scheduler gives it little: whether it is still bad, probes show
    STALE = "stale"  # had traffic a moment ago
    IDLE = "idle"  # has none

    @property
    def patience(self) -> float:
        """Seconds from one probe to the next.

        A second where the scheduler waits to learn how a backend is; as long as a figure is
        fresh where it has just become too old; longer where nobody asks for the backend.
        """
        return _PATIENCE[self]


_PATIENCE: Final = {
    Standing.RECOVERING: 1.0,
    Standing.SHUNNED: 1.0,
    Standing.STALE: 5.0,
    Standing.IDLE: 10.0,
}


def standing(age: float, *, up_for: float, shunned: bool = False) -> Standing:
    """The standing of a backend that may get new connections.

    Args:
        age: seconds since traffic last measured it; infinite if it never has.
        up_for: seconds since it came up.
        shunned: the scheduler gives it no new connections because of its figures.
    """
    if age < FRESH_FOR:
        return Standing.FRESH
    if shunned:
        return Standing.SHUNNED
    if up_for < RECOVERY:
        return Standing.RECOVERING
    return Standing.STALE if age < STALE_FOR else Standing.IDLE


Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, eq=False)
class _Turn(Generic[Key]):
    key: Key
    standing: Standing
    due: float
    placed: float  # a turn that it takes over may have come before
    void: bool = False  # another one has taken its place


class Needs(Generic[Key]):
    """The turns of all backends. Times are seconds on one clock.

    There is a heap for each standing, because within one the order by lateness does not change with time.
    ``place``, ``first`` and ``serve`` take O(log n) over time: void turns are left in the heaps until they
    come up or are more than the others, which costs each of them one step.
    """

    def __init__(self, random: Random) -> None:
        """Begin with no backends; ``random`` is where the jitter comes from."""
        self._random = random
        self._turns: dict[Key, _Turn[Key]] = {}
        self._heaps: dict[Standing, list[tuple[float, int, _Turn[Key]]]] = {kind: [] for kind in _PATIENCE}
        self._order = count()  # the tie-break: turns are not comparable
        self._withheld = 0

    def __iter__(self) -> Iterator[Key]:
        return iter(self._turns)

    def place(self, key: Key, standing: Standing, now: float) -> None:
        """Add a backend, or say how it stands now. Its first turn comes within one patience; another
        standing brings it forward but never puts it off, unless traffic has measured the backend."""
        old = self._turns.get(key)
        if old is not None and old.standing is standing:
            return
        due = now
        if standing is not Standing.FRESH:
            due += standing.patience * self._random.random()
        if old is not None:
            self._void(old, now)
            if Standing.FRESH not in (old.standing, standing):
                due = min(due, old.due)
        self._add(key, standing, due, now)

    def remove(self, key: Key, now: float) -> None:
        """Forget a backend, if it is known."""
        if (turn := self._turns.pop(key, None)) is not None:
            self._void(turn, now)

    def first(self, now: float) -> Key | None:
        """Who is most in need; None if nobody's turn has come."""
        best, latest = None, -1.0
        for standing in self._heaps:
            turn = self._next_of(standing)
            if turn is not None and turn.due <= now and _lateness(turn, now) > latest:
                best, latest = turn, _lateness(turn, now)
        return None if best is None else best.key

    def serve(self, key: Key, now: float) -> None:
        """A probe is sent to a backend that wanted one: its next turn is a patience away."""
        turn = self._turns[key]
        self._void(turn, now)
        spread = self._random.uniform(1 - JITTER, 1 + JITTER)
        self._add(key, turn.standing, now + turn.standing.patience * spread, now)

    def next_due(self) -> float | None:
        """When the first turn comes, or has come; None if nobody wants a probe."""
        turns = [turn for standing in self._heaps if (turn := self._next_of(standing))]
        return min((turn.due for turn in turns), default=None)

    def withheld(self, now: float) -> int:
        """Probes that were wanted and not sent, since the start: for each backend one for each patience by
        which its turn was or is late, each second by the standing that it had then. O(n), for reports."""
        return self._withheld + sum(_passed(turn, now) for turn in self._turns.values())

    def _add(self, key: Key, standing: Standing, due: float, now: float) -> None:
        turn = self._turns[key] = _Turn(key, standing, due, now)
        if standing is not Standing.FRESH:
            heap = self._heaps[standing]
            heapq.heappush(heap, (due, next(self._order), turn))
            if len(heap) > 2 * len(self._turns) + 1:
                heap[:] = [entry for entry in heap if not entry[2].void]
                heapq.heapify(heap)

    def _void(self, turn: _Turn[Key], now: float) -> None:
        turn.void = True
        self._withheld += _passed(turn, now)

    def _next_of(self, standing: Standing) -> _Turn[Key] | None:
        heap = self._heaps[standing]
        while heap and heap[0][2].void:
            heapq.heappop(heap)
        return heap[0][2] if heap else None


def _lateness(turn: _Turn[Key], now: float) -> float:
    """How late a turn is, in units of patience; 0 if it has not come."""
    return _patiences(turn.standing, now - turn.due)


def _passed(turn: _Turn[Key], now: float) -> int:
    """Probes that were not sent while it was late with its standing; those before it are counted."""
    return int(_patiences(turn.standing, now - max(turn.due, turn.placed)))


def _patiences(standing: Standing, seconds: float) -> float:
    return 0.0 if standing is Standing.FRESH else max(0.0, seconds / standing.patience)
