"""The path of a packet: parse, lookup, select, track, translate; emit is the datapath's.

``Director.process`` takes a frame as it came in and leaves what is to be sent in ``out``. Nothing
here touches a socket or a clock. Established packets usually do not come this way at all: the fast
path (fastpath.py) does for them, with one lookup, exactly what this file spells out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

from l4lb.director import answer, measure, ports, split
from l4lb.director.connection import UNKNOWN_SHIFTS, Connection, Hop, Path, make_connection, tuple_key
from l4lb.director.conntrack import ConnectionTable
from l4lb.director.direct import DirectConnections, is_denied, is_over
from l4lb.director.fragments import Fragments
from l4lb.director.lookup import Services
from l4lb.director.parse import Packet, parse, segment_length
from l4lb.director.related import related
from l4lb.director.select import ServiceState, select, select_again
from l4lb.director.states import BACKEND, CLIENT, REUSABLE
from l4lb.director.sweep import Sweep
from l4lb.director.track import begins_again, track
from l4lb.director.translate import translate, translate_error
from l4lb.model import (
    DECISIONS_APART,
    DECISIONS_KEPT,
    Decision,
    DropReason,
    Endpoint,
    Nat,
    Plan,
    Protocol,
    State,
    Verdict,
)
from l4lb.wire import ipv4, ipv6, tcp
from l4lb.wire.frame import IP

Route = Callable[[bytes], Hop | None]
"""Address -> next hop; None without a route."""

Outgoing = tuple[Hop | None, bytearray, int]
"""Next hop (None: hand it to the host's stack, on the interface it came from), frame, its end."""

_SYN_SENT: Final = State.SYN_SENT
_FORWARD: Final = Verdict.FORWARD
_PASS: Final = Verdict.PASS

_ANY_PORT = (1_024, 65_535)


class Director:
    """Everything a datapath decides, as a machine without I/O.

    ``now`` is in seconds and never goes back. ``process`` appends to ``out``, which the caller
    empties; frames there are either the caller's own, changed in place, or new ones.
    """

    def __init__(self, now: float, route: Route, random: Random) -> None:
        self.plan = Plan()
        self.services = Services()
        self.table = ConnectionTable(now, self.plan.timeouts, self.plan.limits)
        self.out: list[Outgoing] = []
        self.verdicts: Counter[Verdict] = Counter()
        self.drops: Counter[DropReason] = Counter()
        self.decisions: deque[Decision] = deque(maxlen=DECISIONS_KEPT)
        self._route = route
        self._random = random
        self._fragments = Fragments(self.plan.limits.fragments)
        self._answers = answer.RateLimit(now)
        self._direct = DirectConnections()
        self._sweep = Sweep(self.table, self.reset)

    # -- what should be ------------------------------------------------------------------------

    def configure(self, plan: Plan) -> None:
        """Follow a new plan. Connections of backends that stay are not touched."""
        self.plan = plan
        self.table.set_policy(plan.timeouts, plan.limits)
        self._fragments.limit = plan.limits.fragments
        if self.services.configure(plan):
            self._sweep.again()

    def tick(self, now: float) -> None:
        """Housekeeping in small steps: expiry, and the resets of backends that went away."""
        self.table.expire(now)
        self._fragments.expire(now)
        self.drops.update(self._fragments.take_lost())
        self._sweep.step()

    # -- the path of a packet ------------------------------------------------------------------

    def process(self, frame: bytearray, end: int, now: float) -> Verdict:
        """Decide on the frame whose bytes end at ``end``; see the class for what happens to it."""
        packet = parse(frame, end)
        verdict = _PASS if packet is None else self._process(frame, packet, now)
        self.verdicts[verdict] += 1
        return verdict

    def _process(self, frame: bytearray, packet: Packet, now: float) -> Verdict:
        if packet.error is not None:
            return self._drop(packet.error) if self._ours(packet) else Verdict.PASS
        if packet.icmp_error:
            return self._icmp_error(frame, packet, now)
        flows = self.table.by_protocol.get(packet.protocol)
        if packet.fragment_offset:
            return self._later_fragment(frame, packet, now)
        if flows is None:
            if packet.more_fragments:  # a long ping: all its fragments are the host's
                self._first_fragment(packet, None, BACKEND, Verdict.PASS, now)
            return Verdict.PASS

        connection = flows.get(packet.key)
        if connection is not None:
            from_client = packet.key == connection.original
            verdict = self._known(frame, packet, connection, from_client, now)
        else:
            service = self.services.of(packet)
            if service is not None:
                from_client = CLIENT
                verdict = self._new(frame, packet, service, now)
            else:
                from_client = BACKEND
                verdict = self._unknown_reply(frame, packet, now)
        if packet.more_fragments:
            self._first_fragment(packet, flows.get(packet.key), from_client, verdict, now)
        return verdict

    def _known(
        self, frame: bytearray, packet: Packet, connection: Connection, from_client: bool, now: float
    ) -> Verdict:
        path = connection.path
        if packet.protocol == tcp.PROTOCOL:
            if packet.flags not in tcp.VALID_FLAGS:
                return self._drop(DropReason.BAD_TCP_FLAGS)
            if packet.flags == tcp.SYN and from_client and begins_again(connection):
                return self._again(frame, packet, connection, now)
            if packet.flags & tcp.SYN and not from_client and is_over(connection, packet):
                self.table.remove(connection)
                self._direct.note(packet.key)
                return Verdict.PASS
            if packet.flags & tcp.RST and from_client and is_denied(connection):
                self.table.remove(connection)
                self._direct.deny(connection.reply, path.vip)
                return self._drop(DropReason.NO_CONNECTION)
            if path.gone:
                return self._end(frame, packet, connection, from_client, DropReason.BACKEND_DOWN, now)
        elif path.gone:
            if from_client:
                return self._again(frame, packet, connection, now)
            self.table.remove(connection)
            return self._drop(DropReason.BACKEND_DOWN)
        return self._forward(frame, packet, connection, from_client, now)

    def _end(
        self,
        frame: bytearray,
        packet: Packet,
        connection: Connection,
        from_client: bool,
        reason: DropReason,
        now: float,
    ) -> Verdict:
        """It cannot go on: RST to both ends, with the numbers that this packet shows where it does."""
        if packet.flags & tcp.RST or not packet.flags & tcp.ACK:
            self.table.remove(connection)
            return self._refuse(frame, packet, reason, now)
        if from_client:
            connection.acked_by_client = packet.acknowledgement
        else:
            connection.acked_by_backend = packet.acknowledgement
        self._reset_both(connection)
        self.drops[reason] += 1
        return Verdict.REPLY

    def _again(self, frame: bytearray, packet: Packet, connection: Connection, now: float) -> Verdict:
        """Forget the connection and let the packet begin a new one on the same tuple."""
        self.table.remove(connection)
        service = self.services.of(packet)
        if service is None:
            return self._refuse(frame, packet, DropReason.BACKEND_DOWN, now)
        return self._new(frame, packet, service, now)

    def _new(self, frame: bytearray, packet: Packet, service: ServiceState, now: float) -> Verdict:
        """First packet of a connection, or one from the middle of a connection nobody knows."""
        if packet.version == 6 and ipv6.is_link_local(packet.source):
            return self._drop(DropReason.NO_ROUTE)
        state = State.UDP_NEW
        if packet.protocol == tcp.PROTOCOL:
            if packet.flags not in tcp.VALID_FLAGS:
                return self._drop(DropReason.BAD_TCP_FLAGS)
            if packet.flags & tcp.RST:
                return self._drop(DropReason.NO_CONNECTION)
            if packet.flags & tcp.SYN:
                if packet.flags & tcp.ACK:
                    return self._drop(DropReason.BAD_TCP_FLAGS)
            elif not service.finds_again:
                return self._refuse(frame, packet, DropReason.NO_CONNECTION, now)
            # Also from the middle, where the table was lost and the hash finds the backend again: only
            # its answer tells the segment of a client from a forged one.
            state = _SYN_SENT

        path, decision = select(service, packet, now, self._random)
        if path is None:
            return self._refuse(frame, packet, DropReason.NO_BACKEND, now)
        if self._hop_to_backend(path) is None:
            return self._drop(DropReason.NO_ROUTE)
        reason = self.table.refuses(True, now)
        if reason is not None:
            return self._drop(reason)
        client = Endpoint(packet.source, packet.sport)
        source = self._source(path, client, now)
        if source is None:
            return self._drop(DropReason.NO_FREE_PORT)
        connection = make_connection(path, client, source, state, now)
        if state is _SYN_SENT and not packet.flags & tcp.SYN:
            connection.shifts = UNKNOWN_SHIFTS
        # A backend that calls itself through the VIP: its host takes no packet from its own address. No
        # connection begins, so where turns or chance decide, its next SYN may go elsewhere.
        if source.ip == path.address.ip:
            return self._drop(DropReason.NO_FREE_PORT)
        verdict = self._forward(frame, packet, connection, CLIENT, now, new=True)
        if verdict is _FORWARD:
            if decision is not None:
                service.keep_at = now + DECISIONS_APART
                self.decisions.append(decision)
            if service.affinity is not None:
                service.affinity.begin(packet.source, path, now)
        return verdict

    def _unknown_reply(self, frame: bytearray, packet: Packet, now: float) -> Verdict:
        """From a backend, of no connection: a direct connection's, or ours from before a restart."""
        services = self.services.by_backend.get((packet.protocol, packet.source, packet.sport))
        if services is None or packet.protocol != tcp.PROTOCOL or packet.flags & tcp.RST:
            return Verdict.PASS
        ip = ipv4 if packet.version == 4 else ipv6
        if not ip.can_be_source(packet.destination):  # a client is no multicast address
            return Verdict.PASS
        if packet.version == 6 and ipv6.is_link_local(packet.destination):
            return Verdict.PASS
        if packet.flags & tcp.SYN:
            self._direct.note(packet.key)
            return Verdict.PASS
        if packet.key in self._direct or packet.flags not in tcp.VALID_FLAGS:
            return Verdict.PASS
        client = Endpoint(packet.destination, packet.dport)
        denied = self._direct.denied(packet.key)
        room = self.table.refuses(False, now) is None
        found: Path | None = None
        others = []
        for service in services:
            vip = service.plan.address
            if vip in denied or tuple_key(client, vip) in self.table.tcp:
                continue
            path = select_again(service, client.ip, tuple_key(client, vip))
            if path is None or path.address != Endpoint(packet.source, packet.sport) or not room:
                others.append(service)
            elif found is None:
                found = path
        if not denied:
            self._disown(packet, client, others, now)
        if found is not None:
            connection = make_connection(found, client, client, State.ESTABLISHED, now)
            connection.shifts = UNKNOWN_SHIFTS
            return self._forward(frame, packet, connection, BACKEND, now, new=True)
        self._direct.note(packet.key)
        return Verdict.PASS

    def _disown(
        self, packet: Packet, client: Endpoint, services: Iterable[ServiceState], now: float
    ) -> None:
        """A connection of these services cannot be found again. If it was one, the client may be
        waiting for data and would never learn that it is over: it is told. One without such a
        connection to the VIP does not mind. Of full NAT, the client is not known."""
        hop = self._route(client.ip)
        for service in services:
            if hop is None or service.plan.nat is Nat.FULL:
                continue
            if self._answers.allows(now):
                farewells = answer.farewells(client, service.plan.address, packet)
                self.out += [(hop, frame, len(frame)) for frame in farewells]

    def _forward(
        self,
        frame: bytearray,
        packet: Packet,
        connection: Connection,
        from_client: bool,
        now: float,
        *,
        new: bool = False,
    ) -> Verdict:
        """Check that the packet can go on, track it, translate it and put it out."""
        path = connection.path
        hop = path.hop if from_client else connection.client_hop
        if hop is None or hop.stale:
            hop = self._hop(connection, from_client)
            if hop is None:
                return self._drop(DropReason.NO_ROUTE)
        if packet.ttl <= 1:
            return self._answer(
                answer.time_exceeded(frame, packet, path.vip.ip), packet, DropReason.TTL_EXCEEDED, now
            )
        length = segment_length(frame, packet)
        if length > hop.mtu and not split.allowed(frame, packet):
            return self._answer(
                answer.too_big(frame, packet, path.vip.ip, hop.mtu), packet, DropReason.TOO_BIG, now
            )
        if new and not self.table.add(connection, now):
            return self._drop(DropReason.ESTABLISHED_FULL)
        if not from_client:
            measure.from_backend(connection, packet, now)
        half_open = connection in self.table.half_open
        if not track(self.table, frame, packet, connection, from_client, now):
            return self._end(frame, packet, connection, from_client, DropReason.ESTABLISHED_FULL, now)
        if from_client:
            if half_open and connection not in self.table.half_open:
                self._establish(packet, path, now)
            measure.from_client(connection, packet, now, new=new)
        return self._put_out(frame, packet, connection, from_client, hop, length)

    def _establish(self, packet: Packet, path: Path, now: float) -> None:
        """A connection has been established, by its client's packet: this one is nobody's invention."""
        service = self.services.of(packet)
        if service is not None and service.affinity is not None:
            service.affinity.establish(packet.source, path, now)

    def _put_out(
        self,
        frame: bytearray,
        packet: Packet,
        connection: Connection,
        from_client: bool,
        hop: Hop,
        length: int,
    ) -> Verdict:
        """Translate and put out, in pieces where ``length``, the largest packet's, asks for it."""
        self._count(connection.path, packet, from_client)
        translate(frame, packet, connection.forward if from_client else connection.backward)
        if length > hop.mtu:
            for part in split.split(frame, packet, hop.mtu):
                self.out.append((hop, part, len(part)))
        else:
            self.out.append((hop, frame, packet.end))
        return _FORWARD

    # -- fragments and errors ------------------------------------------------------------------

    def _first_fragment(
        self, packet: Packet, connection: Connection | None, from_client: bool, verdict: Verdict, now: float
    ) -> None:
        """Let the fragments that came before the first one follow it."""
        if self._ours(packet) and (verdict is Verdict.FORWARD or verdict is Verdict.PASS):
            for frame, end in self._fragments.first(packet, connection, from_client, now):
                if self.process(frame, end, now) is Verdict.PASS:
                    self.out.append((None, frame, end))

    def _later_fragment(self, frame: bytearray, packet: Packet, now: float) -> Verdict:
        if not self._ours(packet):
            return Verdict.PASS
        datagram = self._fragments.later(packet, now)
        if datagram is None:
            if self._fragments.wait(frame, packet, now):
                return Verdict.HOLD
            return self._drop(DropReason.FRAGMENTS_FULL)
        connection = datagram.connection
        if connection is None:
            return Verdict.PASS
        if connection.bucket is None or connection.path.gone:
            return self._drop(DropReason.NO_CONNECTION)
        return self._forward_fragment(frame, packet, connection, datagram.from_client, now)

    def _forward_fragment(
        self, frame: bytearray, packet: Packet, connection: Connection, from_client: bool, now: float
    ) -> Verdict:
        hop = self._hop(connection, from_client)
        if hop is None:
            return self._drop(DropReason.NO_ROUTE)
        if packet.ttl <= 1:
            return self._drop(DropReason.TTL_EXCEEDED)
        if packet.end - IP > hop.mtu and not split.allowed(frame, packet):
            return self._drop(DropReason.TOO_BIG)
        connection.seen = now
        return self._put_out(frame, packet, connection, from_client, hop, packet.end - IP)

    def _icmp_error(self, frame: bytearray, packet: Packet, now: float) -> Verdict:
        """An error about a packet we forwarded goes to who sent that packet."""
        match = related(self.table, packet)
        if match is None:
            quoted = packet.quoted
            assert quoted is not None
            service = self.services.at(quoted.protocol, quoted.source, quoted.sport)
            if service is not None and packet.destination == quoted.source:
                return self._drop(DropReason.ICMP_UNMATCHED)
            return Verdict.PASS
        connection, from_client = match.connection, match.from_client
        path = connection.path
        hop = self._hop(connection, from_client)
        if hop is None:
            return self._drop(DropReason.NO_ROUTE)
        if packet.ttl <= 1:
            return self._drop(DropReason.TTL_EXCEEDED)
        self._count(path, packet, from_client)
        translate_error(frame, packet, outer=match.outer, quoted=match.quoted)
        self.out.append((hop, frame, packet.end))
        return Verdict.FORWARD

    # -- connections ---------------------------------------------------------------------------

    def reset(self, connection: Connection) -> None:
        """Forget a connection, and tell both ends by RST where it is TCP and they do not know that it is
        over."""
        if connection.path.protocol is Protocol.TCP and connection.state not in REUSABLE:
            self._reset_both(connection)
        else:
            self.table.remove(connection)

    def _reset_both(self, connection: Connection) -> None:
        """End a TCP connection from the middle."""
        self.table.remove(connection)
        for to_client, frame in answer.resets(connection):
            hop = self._hop(connection, not to_client)
            if hop is not None:
                self.out.append((hop, frame, len(frame)))

    def restore(self, connection: Connection, now: float) -> bool:
        """Add a connection that was saved; False if it has expired, or its tuples are taken or the
        same, or there is no room."""
        flows = self.table.by_protocol[connection.path.protocol]
        if self.table.expires(connection) <= now or connection.original == connection.reply:
            return False
        if connection.original in flows or connection.reply in flows:
            return False
        if self.table.refuses(False, now) is not None:
            return False
        return self.table.add(connection, now)

    def _source(self, path: Path, client: Endpoint, now: float) -> Endpoint | None:
        """What the backend will see: under destination NAT the client itself, unless that tuple is
        taken (one client, two services, one backend, or a direct connection to that backend): then
        another port of it, as nf_nat does."""
        taken = self.table.by_protocol[path.protocol]
        source, among = path.snat, self.plan.snat_ports
        if source is None:
            reply = tuple_key(path.address, client)
            if reply not in taken and reply not in self._direct:
                return client
            source, among = client.ip, _ANY_PORT
        return ports.allocate(
            taken,
            source,
            path.address,
            among,
            self._random,
            gives_way=lambda held: self.table.gives_way(held, now),
            is_service=lambda port: self.services.at(path.protocol, source, port) is not None,
        )

    def _hop(self, connection: Connection, from_client: bool) -> Hop | None:
        return self._hop_to_backend(connection.path) if from_client else self._hop_to_client(connection)

    def _hop_to_backend(self, path: Path) -> Hop | None:
        hop = path.hop
        if hop is None or hop.stale:
            hop = path.hop = self._route(path.address.ip)
        return hop

    def _hop_to_client(self, connection: Connection) -> Hop | None:
        hop = connection.client_hop
        if hop is None or hop.stale:
            width = (len(connection.original) - 4) // 2
            hop = connection.client_hop = self._route(connection.original[:width])
        return hop

    def _ours(self, packet: Packet) -> bool:
        """True if the packet is to or from a VIP or a backend, of whatever port."""
        addresses = self.services.addresses
        return packet.destination in addresses or packet.source in addresses

    # -- verdicts ------------------------------------------------------------------------------

    @staticmethod
    def _count(path: Path, packet: Packet, from_client: bool) -> None:
        if from_client:
            path.packets_in += 1
            path.bytes_in += packet.end - IP
        else:
            path.packets_out += 1
            path.bytes_out += packet.end - IP

    def _drop(self, reason: DropReason) -> Verdict:
        self.drops[reason] += 1
        return Verdict.DROP

    def _refuse(self, frame: bytearray, packet: Packet, reason: DropReason, now: float) -> Verdict:
        """Tell the sender that there is nobody: RST, or ICMP port unreachable."""
        if packet.protocol == tcp.PROTOCOL:
            return self._answer(answer.reset(packet), packet, reason, now)
        return self._answer(answer.port_unreachable(frame, packet), packet, reason, now)

    def _answer(self, reply: bytearray | None, packet: Packet, reason: DropReason, now: float) -> Verdict:
        self.drops[reason] += 1
        if reply is None:
            return Verdict.DROP
        if not self._answers.allows(now):
            self.drops[DropReason.RATE_LIMITED] += 1
            return Verdict.DROP
        hop = self._route(packet.source)
        if hop is None:
            return Verdict.DROP
        self.out.append((hop, reply, len(reply)))
        return Verdict.REPLY
