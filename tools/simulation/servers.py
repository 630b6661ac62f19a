"""A server: a few workers, one queue in order of arrival, and a speed that may change at any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from simulation.events import Events


class Job:
    """A request at a server. ``work`` is how many seconds a worker at speed 1 has to do."""

    __slots__ = ("done", "end", "lost", "work")

    def __init__(self, work: float, done: Callable[[], None], lost: Callable[[], None]) -> None:
        self.work = work  # what was left when it was last begun or the speed changed
        self.end = inf  # when it will be done, at the speed of now
        self.done = done
        self.lost = lost


class Server:
    """``workers`` requests at a time, the others wait in order.

    A request is worked on at the speed of the moment it was begun, as on a server that waits for
    something slow; with ``preempted`` work under way takes on the new speed as well, as on a
    machine whose processor somebody else takes. At speed 0 the server stalls: the kernel goes on
    accepting, nobody answers. A server that is down refuses.
    """

    __slots__ = ("_busy", "_events", "_free", "_preempted", "_queue", "_speed", "up")

    def __init__(self, events: Events, workers: int, *, preempted: bool = False) -> None:
        self._events = events
        self._free = workers
        self._speed = 1.0
        self._preempted = preempted
        self._busy: dict[Job, None] = {}  # in the order they were begun
        self._queue: deque[Job] = deque()
        self.up = True

    def take(self, job: Job) -> None:
        """A request has come."""
        if self._free:
            self._free -= 1
            self._begin(job)
        else:
            self._queue.append(job)

    def set_speed(self, speed: float) -> None:
        """Work at this many times the normal speed from now on."""
        now = self._events.now
        if not self._preempted and speed > 0 and self._speed > 0:
            self._speed = speed
            return
        for job in self._busy:
            if job.end < inf:
                job.work = (job.end - now) * self._speed
        self._speed = speed
        for job in self._busy:
            self._plan(job)

    def stop(self) -> None:
        """Refuse from now on; what was under way or waiting is lost."""
        self.up = False
        self._free += len(self._busy)
        jobs = [*self._busy, *self._queue]
        self._busy.clear()
        self._queue.clear()
        for job in jobs:
            job.end = inf
            job.lost()

    def start(self) -> None:
        """Accept again, with nothing to do."""
        self.up = True

    def _begin(self, job: Job) -> None:
        self._busy[job] = None
        self._plan(job)

    def _plan(self, job: Job) -> None:
        if self._speed > 0:
            job.end = self._events.now + job.work / self._speed
            self._events.at(job.end, self._finish, job, job.end)
        else:
            job.end = inf

    def _finish(self, job: Job, end: float) -> None:
        if job.end != end or job not in self._busy:
            return  # planned before the speed changed
        del self._busy[job]
        if self._queue:
            self._begin(self._queue.popleft())
        else:
            self._free += 1
        job.done()
