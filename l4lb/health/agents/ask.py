"""Asks agents by UDP, thousands of them from one socket. Edge: sockets, clocks, random nonces.

A question is known again by its nonce, so that answers may come in any order, and from any address: a
server with several addresses answers from another one than was asked. Knows nothing of when to ask whom.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from l4lb.agent.protocol import (
    NONCE_SIZE,
    SIZE,
    BadPacket,
    Refusal,
    question,
    read_answer,
    read_nonce,
)
from l4lb.agent.report import Report
from l4lb.health import kernel_time
from l4lb.model import Endpoint
from l4lb.patience import within

_BURST: Final = 64
"""Packets read in one go, before anything else on the event loop gets its turn."""

_REMEMBERED: Final = 16_384
"""Questions without an answer that are remembered, to tell a late answer from a forged one."""

_QUEUE: Final = 1 << 20
"""Bytes of answers that the kernel keeps for us: some 1,500, which may come at once."""

_SENT: Final = 4 << 20
"""Bytes of questions that the kernel keeps: some 5,000. A question to a host that is gone stays with its
neighbour for three seconds; with less, a few hundred of those keep all others from being asked."""

# Of asm-generic/socket.h, where Python has no names for them.
_SNDBUF_FORCE: Final = 32  # SO_SNDBUFFORCE
_RCVBUF_FORCE: Final = 33  # SO_RCVBUFFORCE


class NoAnswer(Exception):
    """An agent was asked and has not said anything that counts. The message is one line."""

    def __init__(self, message: str, packets: int = 1, *, wrong: bool = False) -> None:
        """Say why.

        Args:
            message: for people.
            packets: that were caused all the same, in both directions: the question, if nothing else.
            wrong: something came, but it was no answer.
        """
        super().__init__(message)
        self.packets, self.wrong = packets, wrong


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent said, the seconds from question to answer, and the packets of both."""

    report: Report
    rtt: float
    packets: int = 2


@dataclass(slots=True, eq=False)
class _Question:
    """One that waits for its answer."""

    key: bytes
    answer: asyncio.Future[Answer]
    began: kernel_time.Moment


class AgentSocket:
    """One UDP socket for each IP version, opened when it is needed."""

    def __init__(self, refused: Counter[Refusal] | None = None) -> None:
        """Used on one event loop, that of the first ``ask``.

        Args:
            refused: counts packets thrown away, by reason; by default there is a new one.
        """
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._waiting: dict[bytes, _Question] = {}
        self._expired: set[bytes] = set()
        self._order: deque[bytes] = deque()
        self.refused: Final = Counter[Refusal]() if refused is None else refused

    async def ask(self, endpoint: Endpoint, key: bytes, timeout: float) -> Answer:
        """Ask once.

        Args:
            endpoint: the agent's address and port.
            key: what the question is authenticated with, and its answer.
            timeout: seconds until an answer is late: thrown away and counted.

        Raises:
            NoAnswer: none came in time, or an authentic one that lies: that says the reason.
            OSError: the question could not be sent.
        """
        sock = self._socket(socket.AF_INET if endpoint.version == 4 else socket.AF_INET6)
        nonce = secrets.token_bytes(NONCE_SIZE)
        packet = question(nonce, key)
        waiting = _Question(key, asyncio.get_running_loop().create_future(), kernel_time.moment())
        self._waiting[nonce] = waiting
        try:
            sock.sendto(packet, (endpoint.host, endpoint.port))
            return await within(timeout, waiting.answer)
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout:g} s") from None
        finally:
            del self._waiting[nonce]
            if not waiting.answer.done() or waiting.answer.cancelled():
                self._remember(nonce)

    def close(self) -> None:
        """Close the sockets. Nobody may be waiting for an answer."""
        for sock in self._sockets.values():
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _socket(self, family: socket.AddressFamily) -> socket.socket:
        if (sock := self._sockets.get(family)) is not None:
            return sock
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        kernel_time.stamp_received(sock)
        for force, usual, size in (
            (_RCVBUF_FORCE, socket.SO_RCVBUF, _QUEUE),  # beyond net.core.rmem_max
            (_SNDBUF_FORCE, socket.SO_SNDBUF, _SENT),
        ):
            try:
                sock.setsockopt(socket.SOL_SOCKET, force, size)
            except PermissionError:  # not root: as much as everybody gets
                sock.setsockopt(socket.SOL_SOCKET, usual, size)
        asyncio.get_running_loop().add_reader(sock, self._receive, sock)
        self._sockets[family] = sock
        return sock

    def _remember(self, nonce: bytes) -> None:
        if len(self._order) == _REMEMBERED:
            self._expired.discard(self._order.popleft())
        self._order.append(nonce)
        self._expired.add(nonce)

    def _receive(self, sock: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                # One byte more than an answer has, to see that there is more.
                data, ancillary, _, _ = sock.recvmsg(SIZE + 1, kernel_time.ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError:  # the ICMP error of an earlier question: it will get no answer
                continue
            try:
                self._take(data, kernel_time.stamp(ancillary))
            except BadPacket as bad:
                self.refused[bad.refusal] += 1

    def _take(self, data: bytes, received: int | None) -> None:
        """Give an answer to who waits for it.

        Raises:
            BadPacket: nobody does, or it is not what the agent said.
        """
        nonce = read_nonce(data)
        waiting = self._waiting.get(nonce)
        if waiting is None or waiting.answer.done():
            raise BadPacket(Refusal.LATE if nonce in self._expired else Refusal.UNASKED)
        try:
            report = read_answer(data, waiting.key)
        except BadPacket as bad:
            # Anybody can send nonsense: the question goes on. What the agent itself says counts.
            if bad.refusal in (Refusal.BAD_FIGURE, Refusal.MALFORMED):
                waiting.answer.set_exception(NoAnswer(f"the agent lies: {bad}", packets=2, wrong=True))
            raise
        rtt = kernel_time.round_trip(waiting.began, received, kernel_time.moment())
        waiting.answer.set_result(Answer(report, rtt))
