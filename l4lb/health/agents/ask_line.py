"""Asks one agent by TCP for its line: HAProxy's agent-check, from HAProxy's side. Edge: sockets."""

from __future__ import annotations

from dataclasses import dataclass

from l4lb.agent.haproxy_line import LONGEST, BadLine, Line, parse
from l4lb.agent.report import Report
from l4lb.health.agents.ask import NoAnswer
from l4lb.health.exchange import End, exchange
from l4lb.health.probes.result import ProbeKind
from l4lb.health.talk import BadAnswer
from l4lb.model import Endpoint


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
    talk = _Talk()
    made = await exchange(endpoint, talk, timeout, ProbeKind.AGENT_CHECK.most)
    if made.fault is not None:
        raise made.fault
    if made.end is not End.ANSWERED or talk.line is None:
        raise NoAnswer(made.reason, made.packets, wrong=made.end is End.WRONG)
    return LineAnswer(talk.line, made.seconds, made.packets)


class _Talk:
    """The agent begins, and closes the connection after its line or does not."""

    request = b""
    awaited = "the agent's line"

    def __init__(self) -> None:
        self.line: Line | None = None
        self._data = b""

    @property
    def room(self) -> int:
        return LONGEST - len(self._data)

    def receive(self, data: bytes) -> bool:
        self._data += data
        if data and self.room and not (b"\n" in data or b"\r" in data):
            return False
        try:
            self.line = parse(self._data)
        except BadLine as bad:
            raise BadAnswer(f"not an agent's line: {bad}") from None
        return True
