"""A timeout that is granted again as far as this process was late to see its end.

A process that was stopped, or a machine that was paused or starved, finds two things when it goes on: its
timeouts are over, and the answers it waited for have long been there. ``asyncio.timeout`` looks at the
first one first; all checks that were under way would fail for a fault of the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_LATE: Final = 0.05
"""Seconds: a loop that comes to its timers later than that was away. Less is a long turn of the loop."""

T = TypeVar("T")


async def within(timeout: float, waited_for: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
    """The result of a coroutine or future, which is cancelled if it takes longer.

    Args:
        timeout: seconds; the time for which the event loop was away is granted again, up to as much in all.
        waited_for: if it is done when time is over it counts, also if it was done in the same turn of the
            loop.

    Raises:
        TimeoutError: it was not in time. What it raises itself goes through.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(waited_for)
    deadline = loop.time() + timeout
    grace = timeout
    try:
        while True:
            await asyncio.wait((task,), timeout=max(0.0, deadline - loop.time()))
            if task.done():
                return task.result()
            late = loop.time() - deadline
            if late < 0:
                continue
            granted = min(late, grace) if late > _LATE else 0.0
            if not granted:
                raise TimeoutError
            grace -= granted
            deadline = loop.time() + granted
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        elif not task.cancelled():
            task.exception()  # whoever is cancelled himself does not ask for it
