"""What a datapath does by itself, beside what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from l4lb.datapath.base import DatapathError

log = logging.getLogger(__name__)

_IN_A_ROW: Final = 3
"""Failures after which it is more than a passing want of descriptors or memory. During one, a restart of
the datapath would only make it longer."""


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
    """The turns of work that is done again and again, of which one may fail: the next makes good for it."""

    def __init__(self) -> None:
        self._failures = 0  # in a row

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Around one turn. A ``DatapathError`` is a warning in the log, once until a turn succeeds.

        Raises:
            DatapathError: so many turns in a row have failed that it will not pass.
        """
        try:
            yield
        except DatapathError as error:
            self._failures += 1
            if self._failures == _IN_A_ROW:
                raise
            if self._failures == 1:
                log.warning("%s: it is tried again", error)
        else:
            self._failures = 0
