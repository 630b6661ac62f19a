"""An HTTP probe: a real request on a connection of its own, and the time to its answer's first byte.
Edge: sockets.

The request is the one of the health check. The time runs from the request, not from the SYN: connecting
is the kernels' business (see ``syn``). It ends when our kernel received the first segment of the answer.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final

from l4lb.health.checks import GATEWAY_FAULTS, open_socket
from l4lb.health.http_get import BadAnswer, HttpGet
from l4lb.health.probes import kernel_time
from l4lb.health.probes.result import CannotProbe, Outcome, ProbeKind, ProbeResult
from l4lb.health.tcp_packets import packets_until_reset
from l4lb.model import Endpoint, HealthCheck
from l4lb.os_errors import in_words
from l4lb.patience import within

_RECEIVE_SIZE: Final = 4_096
_RECEIVE_BUFFER: Final = 4_096
"""Bytes, doubled by the kernel. The small window keeps a backend from filling the wire with an answer of
which only the head is read."""


async def probe(target: Endpoint, check: HealthCheck, timeout: float) -> ProbeResult:
    """Ask a backend over HTTP, connecting and answer together in at most ``timeout`` seconds.

    Args:
        target: the address and port to connect to.
        check: path, host and good statuses; all else is not looked at.
        timeout: an answer that comes later finds the connection reset.

    Raises:
        CannotProbe: no socket, for want of file descriptors for example.
    """
    try:
        get = HttpGet(target, check)
    except ValueError as error:
        return ProbeResult(Outcome.UNSENT, reason=str(error))
    try:
        sock = open_socket(target)
    except OSError as error:
        raise CannotProbe(f"there can be no connection: {in_words(error)}") from None
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        kernel_time.stamp_received(sock)
        outcome, seconds, reason = await _exchange(sock, target, get, timeout)
        return ProbeResult(outcome, seconds, packets_until_reset(sock), reason)


async def _exchange(
    sock: socket.socket, target: Endpoint, get: HttpGet, timeout: float
) -> tuple[Outcome, float | None, str]:
    loop = asyncio.get_running_loop()
    step = "connecting"

    async def ask() -> tuple[Outcome, float | None, str]:
        nonlocal step
        await loop.sock_connect(sock, (target.host, target.port))
        step = "sending the request"
        began, sent = time.monotonic(), time.time_ns()
        await loop.sock_sendall(sock, get.request)
        step = f"waiting for {get.awaited}"
        await _readable(sock)
        data, ancillary, _, _ = sock.recvmsg(get.room, kernel_time.ANCILLARY_SIZE)
        seconds = kernel_time.round_trip(sent, kernel_time.stamp(ancillary), time.monotonic() - began)
        while not get.receive(data):
            if (packets := packets_until_reset(sock)) > ProbeKind.HTTP.most:
                reason = f"no end of the headers within {ProbeKind.HTTP.most} packets: {packets}"
                return Outcome.WRONG, None, reason
            step = f"waiting for {get.awaited}"
            data = await loop.sock_recv(sock, min(_RECEIVE_SIZE, get.room))
        return Outcome.ANSWERED, seconds, ""

    try:
        return await within(timeout, ask())
    except TimeoutError:
        return Outcome.LOST, None, f"no answer within {timeout:g} s while {step}"
    except BadAnswer as bad:
        return Outcome.WRONG, None, str(bad)
    except OSError as error:
        text = in_words(error)
        if error.errno in GATEWAY_FAULTS:
            return Outcome.UNSENT, None, text
        if isinstance(error, ConnectionRefusedError):
            return Outcome.REFUSED, None, text
        return Outcome.LOST, None, f"{text} while {step}"


async def _readable(sock: socket.socket) -> None:
    """Wait until something can be read; asyncio has no call for that, and its reads lose the stamp."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, readable)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
