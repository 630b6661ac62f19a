"""Asks one agent by TCP for its line: HAProxy's agent-check, from HAProxy's side. Edge: sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Final

from l4lb.agent.ask import NoAnswer
from l4lb.agent.haproxy_line import LONGEST, BadLine, Line, parse
from l4lb.agent.report import Report
from l4lb.health.checks import GATEWAY_FAULTS
from l4lb.health.probes.result import ProbeKind
from l4lb.health.tcp_packets import packets_until_reset
from l4lb.model import Endpoint
from l4lb.os_errors import in_words

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""struct linger: on, 0 s. As for health checks, no socket is left in TIME_WAIT."""


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """What an agent's line says, the seconds until it was there, connecting included, and all packets."""

    line: Line
    rtt: float
    packets: int

    @property
    def report(self) -> Report:
        """What the line says by itself, whatever was said before it."""
        return self.line.applied_to(Report())


async def ask_line(endpoint: Endpoint, timeout: float) -> LineAnswer:
    """Connect and read one line, in at most ``timeout`` seconds altogether.

    Raises:
        NoAnswer: nobody answers, or not in time, or not with a line of agent-check.
        OSError: the gateway cannot ask, for want of file descriptors or ports for example.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    family = socket.AF_INET if endpoint.version == 4 else socket.AF_INET6
    packets = 0
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            try:
                async with asyncio.timeout(timeout):
                    await loop.sock_connect(sock, (endpoint.host, endpoint.port))
                    data = await _read_line(sock)
            finally:
                packets = packets_until_reset(sock)
        return LineAnswer(parse(data), loop.time() - started, packets)
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout:g} s", packets) from None
    except OSError as error:
        if error.errno in GATEWAY_FAULTS:
            raise
        raise NoAnswer(in_words(error), packets) from None
    except BadLine as bad:
        raise NoAnswer(f"not an agent's line: {bad}", packets, wrong=True) from None


async def _read_line(sock: socket.socket) -> bytes:
    """All until the end of the line, of the connection, or of our patience.

    Raises:
        BadLine: it comes in too many packets.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while b"\n" not in data and b"\r" not in data and len(data) < LONGEST:
        more = await loop.sock_recv(sock, LONGEST - len(data))
        if not more:
            break
        data += more
        if packets_until_reset(sock) > ProbeKind.AGENT_CHECK.most:
            raise BadLine(f"it comes in more than {ProbeKind.AGENT_CHECK.most} packets")
    return data
