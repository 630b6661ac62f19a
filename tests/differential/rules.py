"""What the programs do otherwise than the pure core by design, each with its reason, in one place.

A run compares a program with ``Reference``: the pure core, changed in exactly these ways.

- Held fragments. A program keeps no packet back: a later fragment whose first one was not seen is
  dropped as FRAGMENT_UNKNOWN.
- Fragments of a connection that was forgotten follow the next one on the same tuple with the same backend:
  what is noted are its key and its path, and they become the same either way.
- Direct connections of a backend that was removed are forgotten with its number.
- Farewells. A program makes one packet of one: what is said besides to a client whose connection was
  lost is left out.
- Both ends reset. Of the two RSTs that end a connection from the middle a program sends the one to who
  sent the packet at hand; the other end hears it with its own next packet, or from the daemon.
- Connections that are over. A program has their tuples in a queue, where one that was used again keeps its
  former place as well.
- Ports of half-open connections. A program takes a port from a connection that was silent for a second,
  not from one that is a second old.
- Backends of several services, or of full NAT. Their segments of a connection that nobody knows are a
  direct connection's: the programs do not look for all services of a backend. So one that a client has
  denied to be a VIP's is a direct one too.
- Packets that are wrong twice. An ICMP error whose quote cannot be read, from a source that no host can
  have, is dropped for its source.
- Affinity that is switched off and on again. Who was remembered before is so still.
- Turns. A service that changes between the kinds of NAT goes on with its turn.
- Services that were removed. Their clients' packets are the host's at once, whatever connections there
  still are.
- Connections of backends that went away are looked for, and reset, by the daemon. A run is about the
  programs alone: nobody looks, and such a connection ends with its next packet. But where a backend or a
  service is removed, the backend's packets may lead nowhere or elsewhere until the daemon is through: no
  run has a packet in that moment (``Replan.forget``).

And of these no run has any:

- Cut packets. A program does not cut. No packet that may be cut is longer than the smallest MTU.
- Half-open connections pushed out. Among too many a program pushes out the least recently used one,
  uncounted, and refuses nobody; it remembers as many clients and datagrams as its maps hold. All that
  is far more than a run has.
- More connections that are over than are in a program's queue, 65,536, or more that are gone in front of it
  than it passes in a row, 1,024.
- A service that is added where full NAT has a source port.
- Tables that are drawn from.

Where a connection needs another port of its client's, each engine draws one. The reference is told what
the program drew, see ``follow``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from random import Random

from l4lb.director.connection import Connection
from l4lb.director.conntrack import HANDSHAKE, YOUNG_LOOKS, ConnectionTable
from l4lb.director.direct import DirectConnections
from l4lb.director.director import Director, Route
from l4lb.director.lookup import EndpointKey
from l4lb.director.parse import Packet
from l4lb.director.select import ServiceState
from l4lb.director.states import REUSABLE
from l4lb.model import DropReason, Endpoint, Limits, Nat, Plan, Protocol, Timeouts, Verdict
from l4lb.wire import ipv4, ipv6, tcp
from tests.conformance.engines.engine import Result
from tests.conformance.engines.pure import PureEngine
from tests.differential.frames import ends
from tests.differential.steps import Subject


class _Table(ConnectionTable):
    """Takes a port from what is over, or silent; and a place from what a queue has first."""

    def __init__(self, now: float, timeouts: Timeouts, limits: Limits) -> None:
        super().__init__(now, timeouts, limits)
        self._ended: deque[tuple[Protocol, bytes]] = deque()

    def refuses(self, half_open: bool, now: float) -> DropReason | None:
        """See ``ConnectionTable``. Who looks whether anybody is over takes out who is gone."""
        taken = len(self) if half_open else self.established
        if taken >= self.limits.established:
            self._take_out()
        return super().refuses(half_open, now)

    def expire(self, now: float, limit: int = 1_000) -> int:
        """See ``ConnectionTable``. The daemon's sweep begins with the queue."""
        self._take_out()
        return super().expire(now, limit)

    def _take_out(self) -> None:
        while self._ended and self._first() is None:
            self._ended.popleft()

    def _first(self) -> Connection | None:
        """Of the queue, if it is over."""
        protocol, original = self._ended[0]
        connection = self.by_protocol[protocol].get(original)
        return connection if connection in self.over else None

    def _is_over(self, connection: Connection) -> None:
        super()._is_over(connection)
        self._ended.append((connection.path.protocol, connection.original))

    def give_place(self, now: float) -> bool:
        """See ``ConnectionTable``."""
        young = 0
        while self._ended and young < YOUNG_LOOKS:
            connection, first = self._first(), self._ended.popleft()
            if connection is None:
                continue
            if now - connection.seen >= HANDSHAKE:
                self.remove(connection)
                return True
            self._ended.append(first)
            young += 1
        return False

    def gives_way(self, connection: Connection, now: float) -> bool:
        silent = connection in self.half_open and now - connection.seen >= HANDSHAKE
        return silent or connection.state in REUSABLE


class _Direct(DirectConnections):
    """Knows of no VIP that a connection may be of instead."""

    def deny(self, reply: bytes, vip: Endpoint) -> None:
        self.note(reply)

    def keep_only(self, backends: Container[tuple[bytes, int]]) -> None:
        """Forget those with other backends."""
        for reply in list(self._tuples):
            width = (len(reply) - 4) // 2
            if (reply[:width], int.from_bytes(reply[-4:-2], "big")) not in backends:
                del self._tuples[reply]


class _Director(Director):
    """Holds nothing, looks for nothing, and says one thing at a time."""

    def __init__(self, now: float, route: Route, random: Random) -> None:
        super().__init__(now, route, random)
        self.table = _Table(now, self.plan.timeouts, self.plan.limits)
        self._direct: _Direct = _Direct()

    def _sweep_away(self) -> None:
        return

    def _later_fragment(self, frame: bytearray, packet: Packet, now: float) -> Verdict:
        if not self._ours(packet):
            return Verdict.PASS
        datagram = self._fragments.later(packet, now)
        if datagram is None:
            return self._drop(DropReason.FRAGMENT_UNKNOWN)
        before = datagram.connection
        if before is not None and before.bucket is None:
            following = self.table.by_protocol[before.path.protocol].get(before.original)
            if following is not None and following.path is before.path and not before.path.gone:
                return self._forward_fragment(frame, packet, following, datagram.from_client, now)
        return super()._later_fragment(frame, packet, now)

    def forget_gone(self) -> None:
        """What the daemon does behind a change of plan."""
        for connection in list(self.table):
            if connection.path.gone:
                self.table.remove(connection)
        backends = {
            (ip, port) for protocol, ip, port in self.services.by_backend if protocol == Protocol.TCP
        }
        self._direct.keep_only(backends)

    def _process(self, frame: bytearray, packet: Packet, now: float) -> Verdict:
        if packet.error is DropReason.BAD_ICMP_HEADER and not packet.is_fragment:
            ip = ipv4 if packet.version == 4 else ipv6
            if packet.source == packet.destination or not ip.can_be_source(packet.source):
                packet.error = DropReason.BAD_IP_HEADER
        return super()._process(frame, packet, now)

    def _known(
        self, frame: bytearray, packet: Packet, connection: Connection, from_client: bool, now: float
    ) -> Verdict:
        vip = (packet.protocol, packet.destination, packet.dport)
        if from_client and self.services.at(*vip) is None:
            return Verdict.PASS
        return super()._known(frame, packet, connection, from_client, now)

    def _unknown_reply(self, frame: bytearray, packet: Packet, now: float) -> Verdict:
        services = self.services.by_backend.get((packet.protocol, packet.source, packet.sport), ())
        shared = len(services) > 1 or any(service.plan.nat is Nat.FULL for service in services)
        if shared and packet.protocol == Protocol.TCP and not packet.flags & tcp.RST:
            if packet.flags & tcp.SYN or packet.flags in tcp.VALID_FLAGS:
                self._direct.note(packet.key)
            return Verdict.PASS
        return super()._unknown_reply(frame, packet, now)

    def _disown(
        self, packet: Packet, client: Endpoint, services: Iterable[ServiceState], now: float
    ) -> None:
        return

    def _end(
        self,
        frame: bytearray,
        packet: Packet,
        connection: Connection,
        from_client: bool,
        reason: DropReason,
        now: float,
    ) -> Verdict:
        self.table.remove(connection)
        return self._refuse(frame, packet, reason, now)


class _Follower(Random):
    """Draws what somebody else has drawn."""

    port = 0

    def randrange(self, size: int) -> int:  # type: ignore[override]
        """Where the search for a port begins, in a range that ends at the last port there is."""
        return (self.port - (65_536 - size)) % size


class Reference(PureEngine, Subject):
    """The pure core as the programs are meant to be."""

    name = "reference"
    kind = _Director

    def __init__(self) -> None:
        self._random = _Follower()
        super().__init__()

    def random(self) -> Random:
        """See ``PureEngine``."""
        return self._random

    def configure(self, plan: Plan) -> None:
        """See ``Engine``."""
        services = self._director.services
        turns = {_vip(service): service.turn for service in services}
        super().configure(plan)
        for service in services:
            service.turn = turns.get(_vip(service), 0)

    def forget_gone(self) -> None:
        """See ``Subject``."""
        assert isinstance(self._director, _Director)
        self._director.forget_gone()

    def follow(self, result: Result) -> None:
        """What a program made of a packet, before the reference gets it."""
        for _, frame in result.out:
            seen = ends(frame)
            if seen is not None:
                self._random.port = seen.source.port


def _vip(service: ServiceState) -> EndpointKey:
    address = service.plan.address
    return service.plan.protocol, address.ip, address.port
