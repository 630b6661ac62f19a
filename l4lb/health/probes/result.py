"""The kinds of probes, and what one came to. Pure.

The packets of a probe are all that it causes in both directions, from its first to its last, as the
backend's interface would count them. ARP and neighbour discovery are not among them: they are kept by
the kernel for all traffic alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from l4lb.model import AgentCheck


class ProbeKind(str, Enum):
    """What is asked. A kind of one's own begins here, and with its sender in ``senders``."""

    SYN = "syn"
    HTTP = "http"
    AGENT = "agent"  # l4lb's own, by UDP
    AGENT_CHECK = "agent-check"  # HAProxy's line, by TCP

    @classmethod
    def of(cls, agent: AgentCheck) -> ProbeKind:
        """How an agent is asked."""
        return cls.AGENT_CHECK if agent.protocol == "tcp" else cls.AGENT

    @property
    def cost(self) -> int:
        """Packets that one probe causes if nothing is lost, and hence what it takes from the budget.

        SYN: the SYN, the SYN/ACK, the RST. HTTP: the handshake (3), the request and its ACK (2), two
        segments of the answer and their ACKs (4), the server's FIN and its ACK (2), the RST. An agent: the
        question and the answer; its line: the handshake (3), the line and its ACK (2), the FIN and its ACK
        (2), the RST. What was really sent and received is in ``ProbeResult.packets``.
        """
        costs = {ProbeKind.SYN: 3, ProbeKind.HTTP: 12, ProbeKind.AGENT: 2, ProbeKind.AGENT_CHECK: 8}
        return costs[self]

    @property
    def most(self) -> int:
        """Packets that are waited for: what a backend sends beyond them, byte by byte for example, is not
        read, for all others wait until it is paid."""
        return 3 * self.cost

    @property
    def shows(self) -> str:
        """What an answer means, and what it does not, in one line for people."""
        return {
            ProbeKind.SYN: "reachability and the network's round trip only: "
            "the backend's kernel answers, also for a server that has stalled",
            ProbeKind.HTTP: "the time from a request to the first byte of the server's answer",
        }.get(self, "what the backend says of itself, and that its agent runs")


MOST_EXPENSIVE: Final = max(kind.cost for kind in ProbeKind)
"""Packets; a budget that never holds as many sends no probes of that kind."""


class Outcome(str, Enum):
    """How one probe ended."""

    ANSWERED = "answered"
    REFUSED = "refused"  # by RST: the host is there, the port is closed
    WRONG = "wrong"  # an answer, but not the one that shows a working server
    LOST = "lost"  # no answer in time
    UNSENT = "unsent"  # a fault of this host; says nothing of the backend


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe.

    Attributes:
        round_trip: seconds from question to answer; None unless answered or refused.
        packets: caused in both directions.
        reason: one line; empty if answered.
        said: by an agent, in one line; else empty.
    """

    outcome: Outcome
    round_trip: float | None = None
    packets: int = 0
    reason: str = ""
    said: str = ""


class CannotProbe(Exception):
    """This host lets us send no probe of this kind. The message is one line for people."""
