"""One exchange with a backend on a TCP connection of its own: connect, ask, read until it is enough.
Edge: sockets.

The connection is closed with RST (``SO_LINGER`` of 0 s, socket(7)). An ordinary close would leave a
socket in TIME_WAIT for a minute after every check: 30,000 for a thousand backends checked every 2 s.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from l4lb.health import kernel_time
from l4lb.health.talk import BadAnswer, Talk
from l4lb.health.tcp_packets import packets_until_reset
from l4lb.model import Endpoint
from l4lb.os_errors import in_words
from l4lb.patience import within

GATEWAY_FAULTS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
"""Errors of socket(2), connect(2) and sendto(2) that are the gateway's and say nothing of the backend."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds

_RECEIVE_SIZE: Final = 4_096
_RECEIVE_BUFFER: Final = 4_096
"""Bytes, doubled by the kernel. The small window keeps a backend from filling the wire with an answer of
which only the head is read."""


class End(Enum):
    """How an exchange ended."""

    ANSWERED = "answered"
    WRONG = "wrong"  # an answer, but not the one expected
    REFUSED = "refused"  # by RST instead of a SYN/ACK
    LOST = "lost"  # no way there, reset later, or not in time
    FAULT = "fault"  # the gateway's: says nothing of the backend


@dataclass(frozen=True, slots=True)
class Exchange:
    """What an exchange came to.

    Attributes:
        reason: one line; empty if answered.
        seconds: from the SYN to the last byte that was needed.
        first_byte: seconds from the request to the first segment of the answer, when our kernel received
            it; None if none came, or none was waited for. An upper bound: of segments that wait until this
            process gets to them the kernel makes one, which has the time of the last.
        packets: that it caused in both directions, its RST included.
        fault: the gateway's, None if there was none.
    """

    end: End
    reason: str = ""
    seconds: float = 0.0
    first_byte: float | None = None
    packets: int = 0
    fault: OSError | None = None


async def exchange(
    target: Endpoint, talk: Talk | None, timeout: float, most: int | None = None
) -> Exchange:
    """Connect, and talk if there is something to say.

    Args:
        target: the address and port to connect to.
        talk: what to send and how much to read; None: to be connected is enough.
        timeout: seconds, connecting and answer together.
        most: packets that are waited for, both directions together; None: as many as it takes.

    Raises:
        OSError: no socket, for want of file descriptors for example.
    """
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        kernel_time.stamp_received(sock)
        under_way = _UnderWay(sock, talk, most)
        return await under_way.result(target, timeout)


class _UnderWay:
    """An exchange while it lasts."""

    def __init__(self, sock: socket.socket, talk: Talk | None, most: int | None) -> None:
        self._sock = sock
        self._talk = talk
        self._most = most
        self._step = "connecting"
        self._first_byte: float | None = None

    async def result(self, target: Endpoint, timeout: float) -> Exchange:
        loop = asyncio.get_running_loop()
        began = loop.time()
        end, reason, fault = End.ANSWERED, "", None
        try:
            await within(timeout, self._take_place(target))
        except TimeoutError:
            end, reason = End.LOST, f"timeout after {float(timeout)} s while {self._step}"
        except BadAnswer as bad:
            end, reason = End.WRONG, str(bad)
        except OSError as error:
            end, reason, fault = self._of_error(error)
        seconds = loop.time() - began
        return Exchange(end, reason, seconds, self._first_byte, packets_until_reset(self._sock), fault)

    def _of_error(self, error: OSError) -> tuple[End, str, OSError | None]:
        text = in_words(error)
        if error.errno in GATEWAY_FAULTS:
            return End.FAULT, text, error
        if self._step != "connecting":
            return End.LOST, f"{text} while {self._step}", None
        return End.REFUSED if isinstance(error, ConnectionRefusedError) else End.LOST, text, None

    async def _take_place(self, target: Endpoint) -> None:
        loop, sock, talk = asyncio.get_running_loop(), self._sock, self._talk
        await loop.sock_connect(sock, (target.host, target.port))
        if talk is None:
            return
        self._step = "sending the request"
        began = kernel_time.moment()
        await loop.sock_sendall(sock, talk.request)
        self._step = f"waiting for {talk.awaited}"
        data, received, ended = await _first_read(sock, min(_RECEIVE_SIZE, talk.room))
        self._first_byte = kernel_time.round_trip(began, received, ended)
        while not talk.receive(data):
            self._step = f"waiting for {talk.awaited}"
            if self._most is not None and (packets := packets_until_reset(sock)) > self._most:
                raise BadAnswer(f"{packets} packets without {talk.awaited}, {self._most} are waited for")
            data = await loop.sock_recv(sock, min(_RECEIVE_SIZE, talk.room))


async def _first_read(sock: socket.socket, size: int) -> tuple[bytes, int | None, kernel_time.Moment]:
    """The first bytes that come, when the kernel received them, and when they were read. In the turn of the
    event loop in which it sees them: asyncio's own reads lose the stamp, and in a later turn more would be
    there."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[bytes, int | None, kernel_time.Moment]] = loop.create_future()

    def read() -> None:
        if done.done():
            return
        try:
            data, ancillary, _, _ = sock.recvmsg(size, kernel_time.ANCILLARY_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            done.set_exception(error)
        else:
            done.set_result((data, kernel_time.stamp(ancillary), kernel_time.moment()))

    loop.add_reader(sock, read)
    try:
        return await done
    finally:
        loop.remove_reader(sock)
        if done.done() and not done.cancelled():
            done.exception()  # whoever is cancelled himself does not ask for it
