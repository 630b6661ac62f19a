"""What runs a packet case: the interface between the table and a datapath.

An engine plays the gateway of world.py. It takes whole frames, virtio-net header in front, and says
what came out of which side, so that the program behind it may be anything: Python, an eBPF program
under BPF_PROG_TEST_RUN, or a gateway in a network namespace.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from l4lb.model import (
    ConnectionInfo,
    Counters,
    Decision,
    DropReason,
    Endpoint,
    Offer,
    Plan,
    Recalled,
    Verdict,
)
from l4lb.times import added
from tests.conformance.case import Decided, Measured, Need, Remembered, Row, Traffic
from tests.conformance.world import Host, Side


@dataclass(frozen=True)
class Result:
    """What came of one frame, or of a sweep."""

    verdict: Verdict | None  # None for a sweep
    out: Sequence[tuple[Side, bytes]]  # virtio-net header and frame, in the order of each side
    reasons: Counter[DropReason] = field(default_factory=Counter)
    handed_back: Sequence[bytes] | None = None
    """Frames that waited and turned out to be the host's. None where that cannot be seen, because
    there is a host, and what it does with them is in ``out``."""


class Engine(ABC):
    """A gateway with nothing in it at first."""

    name: str
    offers: frozenset[Need]

    @abstractmethod
    def reset(self) -> None:
        """Forget everything: a new case begins."""

    @abstractmethod
    def configure(self, plan: Plan) -> None:
        """Make a plan true."""

    @abstractmethod
    def send(self, frame: bytes, side: Side) -> Result:
        """A frame comes in."""

    @abstractmethod
    def sweep(self, seconds: float, expected: int) -> Result:
        """Let time pass (0 where the engine has no clock to move), and housekeeping be done.

        ``expected`` frames should come out; an engine that can only wait need not wait longer.
        """

    @abstractmethod
    def connections(self) -> Sequence[Row]:
        """The connection table; ``source`` is always given."""

    @abstractmethod
    def traffic(self, backend: Host) -> Traffic:
        """What was counted for a backend, of all services."""

    @abstractmethod
    def measured(self, backend: Host) -> Measured:
        """What was learnt of a backend, by all services."""

    def recall(self, service: str, client: Host) -> Remembered:
        """What is known of a client before anything is chosen for it."""
        found = self.recalled(service, Endpoint(ip_address(client.ip).packed, client.port))
        connection, last = (None if end is None else host(end) for end in (found.connection, found.last))
        return Remembered(service, client, connection, last, round(found.left, 3))

    @abstractmethod
    def recalled(self, service: str, client: Endpoint) -> Recalled:
        """The same in the words of l4lb."""

    def decisions(self) -> Sequence[Decided]:
        """What was kept of the choices made since the case began, the oldest first."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing behind."""
        return


def row(info: ConnectionInfo) -> Row:
    """A connection as a datapath shows it."""
    return Row(host(info.client), host(info.backend), info.state, host(info.source))


def decided(decision: Decision) -> Decided:
    """A decision as a datapath shows it."""
    best, runner_up = (_offer(offer) for offer in (decision.best, decision.runner_up))
    return Decided(
        host(decision.client), host(decision.backend), decision.rule, decision.compared, best, runner_up
    )


def _offer(offer: Offer | None) -> tuple[Host, bool, int, int, int, int] | None:
    if offer is None:
        return None
    return host(offer.backend), offer.hot, offer.price, offer.cost, offer.in_flight, offer.idle


@functools.lru_cache(10_000)
def host(end: Endpoint) -> Host:
    """An endpoint in the words of world.py."""
    return Host(end.host, end.port)


def added_up(backend: Host, counters: Counters) -> Traffic:
    """What a datapath has counted for a backend, of all services."""
    counted = [traffic for (_, at), traffic in counters.backends.items() if (at.host, at.port) == backend]
    return Traffic(
        backend,
        sum(traffic.packets_in for traffic in counted),
        sum(traffic.packets_out for traffic in counted),
        sum(traffic.bytes_in for traffic in counted),
        sum(traffic.bytes_out for traffic in counted),
    )


def learnt(backend: Host, counters: Counters) -> Measured:
    """What a datapath has learnt of a backend, by all services."""
    known = [traffic for (_, at), traffic in counters.backends.items() if (at.host, at.port) == backend]
    return Measured(
        backend,
        outstanding=sum(traffic.outstanding for traffic in known),
        responses=sum(traffic.responses.count for traffic in known),
        handshakes=sum(traffic.handshakes.count for traffic in known),
        resets=sum(traffic.resets for traffic in known),
        retransmissions=sum(traffic.retransmissions for traffic in known),
        unanswered=sum(traffic.unanswered for traffic in known),
        confirmed=sum(traffic.confirmed for traffic in known),
        average=added([traffic.responses for traffic in known]).average,
    )
