"""One check of one backend: connect, or connect and ask over HTTP. Edge: sockets.

The connection is closed with RST (``SO_LINGER`` of 0 s, socket(7)). An ordinary close would leave a
socket in TIME_WAIT for a minute after every check: 30,000 for a thousand backends checked every 2 s.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from dataclasses import replace
from typing import Final

from l4lb.health.http_get import BadAnswer, HttpGet
from l4lb.health.rise_fall import Outcome, Result
from l4lb.health.tcp_packets import packets_until_reset
from l4lb.model import Endpoint, HealthCheck
from l4lb.os_errors import in_words
from l4lb.patience import within

_RECEIVE_SIZE: Final = 4_096

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds

GATEWAY_FAULTS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
"""Errors of socket(2), connect(2) and sendto(2) that are the gateway's and say nothing of the backend."""


async def run_check(target: Endpoint, check: HealthCheck) -> Result:
    """Check a backend once, ``within`` ``check.timeout`` seconds, connecting and answer together.

    Args:
        target: the address and port to connect to (``check.port`` was applied before).
        check: what to do; interval, rise and fall are not looked at.

    Raises:
        ValueError: ``check.check`` is neither "tcp" nor "http".
    """
    if check.check not in ("tcp", "http"):
        raise ValueError(f"'{check.check}' is not a check that can be made")
    try:
        get = HttpGet(target, check) if check.check == "http" else None
    except ValueError as error:
        return Result(Outcome.UNDECIDED, str(error))

    try:
        sock = open_socket(target)
    except OSError as error:
        return _from_error(error, "connecting")
    with sock:
        result = await _exchange(sock, target, get, check.timeout)
        return replace(result, packets=packets_until_reset(sock))


async def _exchange(sock: socket.socket, target: Endpoint, get: HttpGet | None, timeout: float) -> Result:
    loop = asyncio.get_running_loop()
    started = loop.time()
    step = "connecting"

    async def ask() -> None:
        nonlocal step
        await loop.sock_connect(sock, (target.host, target.port))
        if get is not None:
            step = "sending the request"
            await loop.sock_sendall(sock, get.request)
            good = False
            while not good:
                step = f"waiting for {get.awaited}"
                good = get.receive(await loop.sock_recv(sock, min(_RECEIVE_SIZE, get.room)))

    try:
        await within(timeout, ask())
    except TimeoutError:
        return Result(Outcome.FAILED, f"timeout after {float(timeout)} s while {step}")
    except OSError as error:
        return _from_error(error, step)
    except BadAnswer as bad:
        return Result(Outcome.FAILED, str(bad))
    return Result(Outcome.PASSED, latency=loop.time() - started)


def open_socket(target: Endpoint) -> socket.socket:
    """A TCP socket for one exchange with ``target``: does not block, and is closed with RST."""
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return sock


def _from_error(error: OSError, step: str) -> Result:
    text = in_words(error)
    if error.errno in GATEWAY_FAULTS:
        return Result(Outcome.UNDECIDED, f"the gateway cannot check: {text}")
    return Result(Outcome.FAILED, text if step == "connecting" else f"{text} while {step}")
