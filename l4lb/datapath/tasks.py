"""What a datapath does by itself, beside what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from l4lb.backoff import Backoff
from l4lb.datapath.base import DatapathError

log = logging.getLogger(__name__)

_SEVERAL: Final = 3
"""Failures in a row after which it is more than a passing want of descriptors or memory."""


class Tasks:
    """Tasks that end with the datapath, and whose errors are never lost."""

    def __init__(self) -> None:
        """For use in a running event loop."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._vital: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def __bool__(self) -> bool:
        """Whether any is under way."""
        return bool(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], *, vital: bool = False) -> None:
        """Begin to do something.

        Args:
            work: what to do. A ``DatapathError`` is a warning in the log; any other error is a bug.
            vital: without it the datapath is not whole: an error of any kind is the datapath's end.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        if vital:
            self._vital.add(task)
        task.add_done_callback(self._finished)

    async def wait_failed(self) -> str:
        """Return, with the reason in one line, only if one that is vital has failed."""
        return await asyncio.shield(self._failed)

    async def close(self) -> None:
        """Cancel all; returns when none is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        vital = task in self._vital
        self._vital.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, DatapathError):
            log.error("a bug in the datapath", exc_info=error)
        elif not vital:
            log.warning("%s", error)
        if vital and not self._failed.done():
            self._failed.set_result(str(error) or repr(error))


class Turns:
    """The turns of work that is done again and again, of which any may fail: the next makes good for it.

    What fails is never the datapath's end. Packets go on, and one that was begun anew would ask the same
    kernel for the same, and more of it. Only a bug is: what is known of the kernel may be wrong then, and
    one that is begun anew reads it from there.
    """

    def __init__(self) -> None:
        self._failures = 0  # in a row
        self._error = ""  # of the last one
        self._backoff = Backoff()
        self._pause = 0.0

    @property
    def pause(self) -> float:
        """Seconds to wait before the next turn: it is tried again at once, and then ever less often."""
        return self._pause

    @property
    def failed(self) -> bool:
        """Whether the last turn has."""
        return self._failures > 0

    @property
    def trouble(self) -> str | None:
        """Why it has failed several times in a row, for people."""
        return f"{self._error} ({self._failures} times)" if self._failures >= _SEVERAL else None

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Around one turn. A ``DatapathError`` is a warning in the log: of many in a row of the first, the
        second, the fourth, the eighth; and so is their end."""
        try:
            yield
        except DatapathError as error:
            self._failures += 1
            self._error = str(error)
            self._pause = self._backoff.after_run(0.0)
            if self._failures == 1:
                log.warning("%s: it is tried again", error)
            elif not self._failures & self._failures - 1:
                log.warning("%s: %d times in a row; it is tried again", error, self._failures)
        else:
            if self._failures > 1:
                log.warning("what failed %d times in a row is done now", self._failures)
            self._failures, self._backoff, self._pause = 0, Backoff(), 0.0
