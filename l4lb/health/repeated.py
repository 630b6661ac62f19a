"""Do things again and again, each at its interval and so many at once. Edge: tasks, a timer, the clock.

What is due is for ``schedule``, what to do and what comes of it for the owner. Everything runs on the event
loop that ``go_on`` is called on; nothing here is for other threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from l4lb.health.schedule import Schedule

Job = TypeVar("Job", bound=Hashable)
_Result = TypeVar("_Result")


class Repeated(Generic[Job, _Result]):
    """Starts what its schedule has due, and tells when it is over."""

    def __init__(
        self,
        schedule: Schedule[Job],
        clock: Callable[[], float],
        *,
        due: Callable[[float], list[Job]],
        start: Callable[[Job], Awaitable[_Result]],
        over: Callable[[Job, asyncio.Future[_Result], float], None],
        least_pause: float = 0.0,
    ) -> None:
        """Begin with nothing under way.

        Args:
            schedule: whose jobs these are.
            clock: seconds, monotonic.
            due: which jobs to start now, by ``Schedule.start_due``.
            start: does one of them once.
            over: told of the end of one, with its task, which is done and was not cancelled, and the time.
            least_pause: seconds until ``due`` is asked again, at least, if one is due that may not start.
        """
        self._schedule = schedule
        self._clock = clock
        self._due = due
        self._start = start
        self._over = over
        self._least_pause = least_pause
        self._tasks: dict[Job, asyncio.Future[_Result]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def go_on(self) -> None:
        """Start what is due and set the timer for what is due next; to be called when jobs were added."""
        now = self._clock()
        for job in self._due(now):
            self._tasks[job] = task = asyncio.ensure_future(self._start(job))
            # A callback, not a finally in the task: a task cancelled before its first step runs none.
            task.add_done_callback(partial(self._finished, job))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._schedule.next_start()) is not None:
            pause = due - now if due > now else self._least_pause
            self._timer = asyncio.get_running_loop().call_later(pause, self.go_on)

    def drop(self, job: Job) -> None:
        """Never again, nor to the end if it is under way; of one that has just ended ``over`` is told."""
        self._schedule.remove(job)
        if (task := self._tasks.get(job)) is not None:
            task.cancel()

    async def wait(self) -> None:
        """Until none is under way of those that are now."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _finished(self, job: Job, task: asyncio.Future[_Result]) -> None:
        now = self._clock()
        del self._tasks[job]
        self._schedule.finish(job, now)
        if not task.cancelled():
            self._over(job, task, now)
        self.go_on()
