"""When is the next check of each backend due, and may it start? Pure: times in, keys out.

- The first check of a key comes at a random moment within one interval, or sooner if it is urgent, so that
  a thousand backends configured at once are not checked at once.
- Later ones start an interval after the start before, give or take a tenth, so that backends do not
  fall into step with each other or with whatever else happens every two seconds.
- At most a given number are under way. The others wait in the order in which they were due.
- A key is either waiting or under way, never both: when checks take longer than their interval, or
  more wait than can start, checks are skipped and never pile up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count
from math import inf
from random import Random
from typing import Final, Generic, TypeVar

JITTER: Final = 0.1
"""Part of an interval by which a check may come sooner or later."""

Key = TypeVar("Key", bound=Hashable)


class Schedule(Generic[Key]):
    """The checks that wait and those under way. All times are seconds on one clock."""

    def __init__(self, random: Random, max_at_once: int) -> None:
        """Begin with nothing to check.

        Args:
            random: where the jitter comes from.
            max_at_once: how many checks may be under way, at least 1.

        Raises:
            ValueError: ``max_at_once`` is below 1.
        """
        if max_at_once < 1:
            raise ValueError(f"at least 1 check must be allowed at once, not {max_at_once}")
        self._random = random
        self._max_at_once = max_at_once
        self._intervals: dict[Key, float] = {}
        self._waiting: list[tuple[float, int, Key]] = []  # a heap; keys removed leave when they are due
        self._started: dict[Key, float] = {}
        self._order = count()  # the tie-break: keys need not be comparable

    def add(self, key: Key, interval: float, now: float, within: float = inf) -> None:
        """Check ``key`` every ``interval`` seconds, the first time within one interval from now, or within
        so many seconds if that is sooner.

        A key that was removed must not be added again: its last check may still be under way.
        """
        self._intervals[key] = interval
        self._wait(key, now + min(interval, within) * self._random.random())

    def allow(self, max_at_once: int) -> None:
        """So many checks may be under way from now on; if more are, they end first."""
        self._max_at_once = max_at_once

    def remove(self, key: Key) -> None:
        """Forget ``key``. If its check is under way it keeps its place until ``finish``."""
        del self._intervals[key]

    def start_due(self, now: float, may: Callable[[Key, float], bool] | None = None) -> list[Key]:
        """The checks to start now, first due first; each is under way until ``finish``.

        Args:
            now: when.
            may: whether the next one, which is due since some time, may start; if not, it and the others
                go on waiting.
        """
        starting: list[Key] = []
        free = self._max_at_once - len(self._started)
        while len(starting) < free and (due := self._first_due()) is not None and due <= now:
            if may is not None and not may(self._waiting[0][2], due):
                break
            key = heapq.heappop(self._waiting)[2]
            self._started[key] = now
            starting.append(key)
        return starting

    def finish(self, key: Key, now: float) -> None:
        """The check of ``key`` is over: its place is free and its next one is planned."""
        started = self._started.pop(key)
        if key in self._intervals:
            spread = self._random.uniform(1 - JITTER, 1 + JITTER)
            self._wait(key, max(now, started + self._intervals[key] * spread))

    def next_start(self) -> float | None:
        """When ``start_due`` has to be called next; None if only ``add`` or ``finish`` can change that."""
        return self._first_due() if len(self._started) < self._max_at_once else None

    def lateness(self, now: float) -> float:
        """How late the check is that has waited longest, in intervals of its own; 0 if none is late."""
        due = self._first_due()
        if due is None or due >= now:
            return 0.0
        return (now - due) / self._intervals[self._waiting[0][2]]

    def _wait(self, key: Key, due: float) -> None:
        heapq.heappush(self._waiting, (due, next(self._order), key))

    def _first_due(self) -> float | None:
        while self._waiting and self._waiting[0][2] not in self._intervals:
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None
