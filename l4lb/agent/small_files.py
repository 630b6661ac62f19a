"""Small files that somebody else writes: keys, states, figures."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Followed(Generic[T]):
    """What a file says, followed over time; while it cannot be used, what it said before stays."""

    def __init__(self, read: Callable[[], T], first: T, news: Callable[[T], str]) -> None:
        """``read`` raises ValueError, in one line, where the file cannot be used; ``first`` is what it said
        before it is read; ``news`` tells in the log what is new."""
        self._read, self._last, self._news = read, first, news
        self._problem = ""

    def read(self) -> T:
        """What it says now; what is new about it is logged."""
        try:
            now = self._read()
        except ValueError as bad:
            if str(bad) != self._problem:
                self._problem = str(bad)
                log.error("%s: what it said before stays", bad)
            return self._last
        self._problem = ""
        if now != self._last:
            self._last = now
            log.info("%s", self._news(now))
        return now


def read_small(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """Up to ``most`` bytes of a file, and what it is: of the very file that was read.

    Does not wait, whatever has that name.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            raise OSError(errno.EINVAL, "not a regular file")
        data = b""
        while len(data) < most and (more := os.read(descriptor, most - len(data))):
            data += more
        return data, status
    finally:
        os.close(descriptor)
