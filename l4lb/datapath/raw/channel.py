"""The channel between the control plane and the packet process: length, then a pickled tuple.

Pickle, as the two are one program: a parent and the child it has started, on a socket pair that
nobody else has. Neither side ever blocks on it. The packet process queues what the control plane is
slow to read (``Channel``); the control plane uses asyncio's streams (``read_message``, ``pack``).
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from struct import Struct
from typing import Any, Final

Message = tuple[Any, ...]
"""A name, then what belongs to it; worker.py has the ones to it, datapath.py the ones from it."""

_LENGTH: Final = Struct("!I")
_READ: Final = 1 << 18


def pack(message: Message) -> bytes:
    """A message as it goes over the wire."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next message.

    Raises:
        asyncio.IncompleteReadError: the other side is gone.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    message: Message = pickle.loads(await reader.readexactly(length))
    return message


class Channel:
    """The packet process's end, which never waits for the control plane."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._in = bytearray()
        self._out = bytearray()

    def fileno(self) -> int:
        """For polling."""
        return self._socket.fileno()

    @property
    def writing(self) -> bool:
        """True while messages wait for room."""
        return bool(self._out)

    def send(self, message: Message) -> None:
        """Send now what there is room for, and the rest on ``flush``. What the control plane does not
        ask for must be bounded by whoever sends it."""
        self._out += pack(message)
        self.flush()

    def flush(self) -> None:
        """Send as much as there is room for. A control plane that is gone is met by ``receive``."""
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()

    def receive(self) -> list[Message]:
        """All messages that have come in whole.

        Raises:
            EOFError: the control plane is gone.
        """
        try:
            while True:
                data = self._socket.recv(_READ)
                if not data:
                    raise EOFError
                self._in += data
        except BlockingIOError:
            pass
        except OSError:
            raise EOFError from None
        messages = []
        while len(self._in) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._in)
            end = _LENGTH.size + length
            if len(self._in) < end:
                break
            messages.append(pickle.loads(memoryview(self._in)[_LENGTH.size : end]))
            del self._in[:end]
        return messages
