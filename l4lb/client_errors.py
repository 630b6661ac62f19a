"""Mistakes of HTTP clients in the log: whoever reaches a port of ours must not fill it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

_LINE_EVERY: Final = 60.0
"""Seconds between two lines."""


class ClientErrors(logging.Filter):
    """Of requests that are not HTTP, lets one line a minute through, which tells how many there were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds."""
        super().__init__()
        self._clock = clock
        self._next = float("-inf")
        self._unsaid = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``. Errors of ours pass as they are."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | RequestPayloadError):
            return True
        now = self._clock()
        if now < self._next:
            self._unsaid += 1
            return False
        before = f" ({self._unsaid} more since this was said last)" if self._unsaid else ""
        self._next, self._unsaid = now + _LINE_EVERY, 0
        record.msg = "what came is not HTTP: %s%s"
        record.args = (" ".join(str(error).split()), before)
        record.exc_info = None
        return True


_OF_ALL_SERVERS: Final = ClientErrors()


def log_sparingly() -> None:
    """Have aiohttp's servers in this process log that clients' requests are not HTTP once a minute."""
    logging.getLogger("aiohttp.server").addFilter(_OF_ALL_SERVERS)
