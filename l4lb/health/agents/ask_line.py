"""Asks one agent by TCP for its line: HAProxy's agent-check, from HAProxy's side. Edge: sockets."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from l4lb.agent.haproxy_line import LONGEST, BadLine, Line, parse
from l4lb.agent.report import Report
from l4lb.health.agents.ask import NoAnswer
from l4lb.health.checks import GATEWAY_FAULTS, open_socket
from l4lb.health.probes.result import ProbeKind
from l4lb.health.tcp_packets import packets_until_reset
from l4lb.model import Endpoint
from l4lb.os_errors import in_words
from l4lb.patience import within


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
    packets = 0
    try:
        with open_socket(endpoint) as sock:
            try:
                data = await within(timeout, _read_line(sock, endpoint))
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


async def _read_line(sock: socket.socket, endpoint: Endpoint) -> bytes:
    """Connect; all until the end of the line, of the connection, or of our patience.

    Raises:
        BadLine: it comes in too many packets.
    """
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (endpoint.host, endpoint.port))
    data = b""
    while b"\n" not in data and b"\r" not in data and len(data) < LONGEST:
        more = await loop.sock_recv(sock, LONGEST - len(data))
        if not more:
            break
        data += more
        if packets_until_reset(sock) > ProbeKind.AGENT_CHECK.most:
            raise BadLine(f"it comes in more than {ProbeKind.AGENT_CHECK.most} packets")
    return data
