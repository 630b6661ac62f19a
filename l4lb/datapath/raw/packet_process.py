"""The packet process from the control plane's side: started, asked, told, watched and ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from l4lb.datapath.base import DatapathError
from l4lb.datapath.raw.channel import pack, read_message
from l4lb.datapath.raw.child import start_child

log = logging.getLogger(__name__)

_ANSWER: Final = 60.0
"""Seconds. Long: saving a million connections takes some."""

_END: Final = 5.0


@dataclass(slots=True)
class _Pending:
    """A request without its answer."""

    future: asyncio.Future[Any]
    parts: list[Any] = field(default_factory=list)


class PacketProcess:
    """A child process that runs worker.py. Nothing here ever waits for room in the channel."""

    def __init__(self, resolve: Callable[[int, bytes], None]) -> None:
        """``resolve(index, ip)`` is called when the process wants a neighbour looked for."""
        self._resolve = resolve
        self._process: asyncio.subprocess.Process  # from start on
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None]
        self._pending: dict[int, _Pending] = {}
        self._requests = 0
        self._open = False

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def open(self) -> bool:
        """True from the start until the channel is closed, by whichever side."""
        return self._open

    async def start(self) -> None:
        """Start it.

        Raises:
            DatapathError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: this runs as root and must not import what lies in the current directory.
            command = [sys.executable, "-P", "-m", "l4lb.datapath.raw.worker", str(theirs.fileno())]
            try:
                self._process = await start_child(*command, pass_fds=[theirs.fileno()])
            except OSError as error:
                ours.close()
                raise DatapathError(f"the packet process cannot be started: {error.strerror}") from None
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._open = True
        self._reading = asyncio.create_task(self._read(reader))

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        return await self._process.wait()

    async def end(self) -> None:
        """Close the channel and see it end; killed if it does not."""
        self._close("the packet process has stopped")
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        try:
            async with asyncio.timeout(_END):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End it at once, for one that hangs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def tell(self, name: str, *arguments: Any) -> None:
        """Send a message that wants no answer; nothing if the process is gone."""
        if self._open:
            self._writer.write(pack((name, 0, *arguments)))

    async def request(self, name: str, *arguments: Any, timeout: float = _ANSWER) -> Any:
        """Send a message and wait for its answer.

        Raises:
            DatapathError: the process is gone, or does not answer.
        """
        return (await self._request(name, arguments, timeout))[1]

    async def request_parts(self, name: str, *arguments: Any) -> tuple[list[Any], Any]:
        """As ``request``, for an answer that comes in parts: (all of them, the end)."""
        return await self._request(name, arguments, _ANSWER)

    async def _request(
        self, name: str, arguments: tuple[Any, ...], timeout: float
    ) -> tuple[list[Any], Any]:
        if not self._open:
            raise DatapathError("the packet process is not running")
        self._requests += 1
        number = self._requests
        pending = self._pending[number] = _Pending(asyncio.get_running_loop().create_future())
        self._writer.write(pack((name, number, *arguments)))
        try:
            async with asyncio.timeout(timeout):
                return pending.parts, await pending.future
        except TimeoutError:
            raise DatapathError(f"the packet process did not answer '{name}'") from None
        finally:
            self._pending.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                message = await read_message(reader)
                self._receive(message)
                if message[0] == "part":  # hundreds of which may be there already: others have their turns
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, OSError):
            self._close("the packet process is gone")

    def _receive(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("answer", number, value):
                pending = self._pending.get(number)
                if pending is not None and not pending.future.done():
                    pending.future.set_result(value)
            case ("part", number, part):
                pending = self._pending.get(number)
                if pending is not None:
                    pending.parts.extend(part)
            case ("resolve", index, address):
                self._resolve(index, address)
            case ("log", level, text):
                log.log(logging.getLevelName(level.upper()), "%s", text)

    def _close(self, reason: str) -> None:
        self._open = False
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(DatapathError(reason))
