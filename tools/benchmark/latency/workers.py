"""A server as a queue: some workers, each with one job at a time, and a line of jobs that wait. Pure.

All workers go at one speed, which may change while they work. So one figure, the work a worker would
have done since the beginning, tells how far every job is, and a change of speed touches no job. A pace
is for those jobs alone that are begun at it, as on a server that waits for something slow: at 0.2 they
are five times the work, whatever comes afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Job = TypeVar("Job", bound=Hashable)


class Workers(Generic[Job]):
    """First come, first served. Times and work are in seconds; ``now`` never goes back."""

    def __init__(self, count: int) -> None:
        self.speed = 1.0
        self.pace = 1.0
        self._count = count
        self._since, self._done = 0.0, 0.0  # the last change of speed, and the work a worker had done then
        self._waiting: dict[Job, float] = {}  # work; in order
        self._served: dict[Job, float] = {}  # the work a worker has done when this one is finished

    def add(self, job: Job, work: float, now: float) -> None:
        """A job that takes ``work`` seconds at speed and pace 1."""
        self._waiting[job] = work
        self._fill(self._work(now))

    def remove(self, job: Job, now: float) -> None:
        """Forget a job, wherever it is; nothing happens if it is finished."""
        if self._waiting.pop(job, None) is None and self._served.pop(job, None) is not None:
            self._fill(self._work(now))

    def set_speed(self, speed: float, now: float) -> None:
        """Go on at another speed; at 0 everything stands still."""
        self._done, self._since = self._work(now), now
        self.speed = speed

    def due(self) -> float:
        """When the next job is finished, if nothing happens before; infinite if none will be."""
        if not self._served or not self.speed:
            return math.inf
        return self._since + (min(self._served.values()) - self._done) / self.speed

    def finished(self, now: float) -> Iterator[Job]:
        """The jobs that are finished by now, each once.

        The next in line begins when its worker was free and not when that was noticed, so that a late
        timer delays one answer and does not make the server slower.
        """
        work = self._work(now)
        while self._served:
            job, end = min(self._served.items(), key=lambda it: it[1])
            if end > work:
                return
            del self._served[job]
            self._fill(end)
            yield job

    def _work(self, now: float) -> float:
        return self._done + (now - self._since) * self.speed

    def _fill(self, work: float) -> None:
        while self._waiting and len(self._served) < self._count:
            job = next(iter(self._waiting))
            self._served[job] = work + self._waiting.pop(job) / self.pace
