"""Gives every TCP connection one line and closes: HAProxy's agent-check. Edge: sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from l4lb.model import Endpoint

_CONNECTIONS: Final = 64
"""At a time; more are closed at once, unanswered."""

_PATIENCE: Final = 2.0
"""Seconds that an asker has to take its line and close."""

_LONGEST_QUESTION: Final = 1_024
"""Bytes of an ``agent-send`` that are read; what they say makes no difference."""


class LineServer:
    """Sends what ``line`` gives at the moment."""

    def __init__(self, line: Callable[[], bytes]) -> None:
        """Nothing is listening until ``listen``."""
        self._line = line
        self._open = 0
        self.answered = 0
        self.turned_away = 0

    async def listen(self, address: Endpoint) -> asyncio.Server:
        """Answer until the server is closed.

        Raises:
            OSError: the address cannot be had.
        """
        return await asyncio.start_server(self._serve, address.host, address.port, limit=_LONGEST_QUESTION)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > _CONNECTIONS:
                self.turned_away += 1
                return
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    writer.write(self._line())
                    self.answered += 1
                    writer.write_eof()
                    await writer.drain()
                    # Closing with a question unread would reset the connection, maybe before the line
                    # has been read.
                    await reader.read(_LONGEST_QUESTION)
        finally:
            self._open -= 1
            writer.close()
