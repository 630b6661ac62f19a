"""Random traffic that makes sense often enough: handshakes, transfers, their ends, and what goes wrong.

Who is connected with whom is learned from what comes out of an engine, so a backend answers the packets
that it got. Clients have few ports: connections meet, end, and begin anew on the same tuple.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from typing import Final

from l4lb.model import Plan, Protocol
from tests.conformance.engines.engine import Result
from tests.conformance.world import MTU, NARROW_MTU, NETS
from tests.differential import mutations
from tests.differential.frames import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    IP,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
    URG,
    End,
    ends,
    framed,
    icmp,
    packet,
    tcp,
    udp,
)
from tests.differential.plans import STEP, changed, random_plan
from tests.differential.steps import Packet, Replan, Step, Wait

_PORTS: Final = range(40_000, 40_006)
_KEPT: Final = 12  # frames to be quoted, repeated and damaged
_FLAGS: Final = (*[ACK] * 6, *[PSH | ACK] * 4, *[FIN | ACK] * 3, RST, RST | ACK, SYN)
_ODD_FLAGS: Final = (0, FIN, SYN | FIN, SYN | RST, SYN | ACK, FIN | PSH | URG, ACK | URG, SYN | PSH, 63)
_OFFSETS: Final = (0, 0, 0, 0, 0, 0, 1, -1, 1000, -1000, 65_535, 65_536, 1 << 20, -(1 << 20), 1 << 31)
_WINDOW_SCALES: Final = (
    b"",
    b"",
    bytes.fromhex("01030307"),
    bytes.fromhex("0303000001010101")[:8],
    bytes.fromhex("020405b40103030e"),
    bytes.fromhex("030300000303"),
    bytes.fromhex("01010303"),
    bytes.fromhex("00030307"),
    bytes.fromhex("0303ff00"),
    bytes.fromhex("0300010108ff0000"),
)
_ERRORS: Final = {
    4: ((3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0)),
    6: ((1, 0), (1, 4), (2, 0), (3, 0), (4, 1)),
}


@dataclass
class _Flow:
    """A client's port and where it leads."""

    protocol: int
    client: End
    vip: End
    sequence: int
    backend_sequence: int
    backend: End | None = None  # once a packet has come out there
    source: End | None = None  # what it sees


class Traffic:
    """One run's traffic: ask for ``step``, play it, tell what came ``out``."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._net = random.choice(NETS)
        self.plan: Plan = random_plan(random, self._net)
        self._clients = (self._net.client, self._net.second, self._net.far, self._net.narrow)
        self._flows: list[_Flow] = []
        self._received: list[Packet] = []
        self._sent: list[bytes] = []
        self._pending: list[tuple[bytes, bytes]] = []  # fragments to come: source, packet
        self._asked: _Flow | None = None
        self._identification = random.randrange(1 << 16)
        changing = random.choice((0, 0, 1, 3))
        odd = random.choice((1, 3, 6))
        moves: dict[Callable[[], Step], int] = {
            self._open: 12,
            self._client_speaks: 26,
            self._backend_speaks: 30,
            self._stray: odd,
            self._error: odd,
            self._fragments: odd,
            self._damaged: 2 * odd,
            self._again: 2,
            self._wait: 3,
            self._replan: changing,
        }
        self._moves = list(moves)
        self._weights = list(accumulate(moves.values()))

    def step(self) -> Step:
        """What happens next."""
        self._asked = None
        if self._pending and self._random.random() < 0.5:
            return self._next_fragment()
        (move,) = self._random.choices(self._moves, cum_weights=self._weights)
        step = move()
        return Packet(step.side, _whole(step.frame)) if isinstance(step, Packet) else step

    def out(self, step: Step, result: Result) -> None:
        """What came out: who is behind it, and what could be said about it."""
        if isinstance(step, Packet):
            self._received = [*self._received[1 - _KEPT :], step]
        for _, frame in result.out:
            self._sent = [*self._sent[1 - _KEPT :], frame]
            flow, seen = self._asked, ends(frame)
            if flow is not None and seen is not None and seen.destination.ip != flow.client.ip:
                flow.backend, flow.source = seen.destination, seen.source

    # -- endpoints that mean well --------------------------------------------------------------

    def _open(self) -> Step:
        service = self._random.choice(self.plan.services)
        host = self._random.choice(self._clients)
        # Mostly a port is one service's: where two connections with a backend need another port, it is
        # drawn, and another one when the run is shortened, which then shows less.
        port = self._random.choice(_PORTS)
        if self._random.random() < 0.95:
            port = self._random.choice([port for port in _PORTS if port % 2 == service.address.port % 2])
        client, vip = End.of(host.at(port)), End(service.address.ip, service.address.port)
        flow = self._flow(service.protocol, client, vip)
        if flow is None:
            flow = _Flow(service.protocol, client, vip, self._number(), self._number())
            self._flows.append(flow)
        elif self._random.random() < 0.5:
            flow.sequence, flow.backend_sequence = self._number(), self._number()
        self._asked = flow
        if flow.protocol == UDP:
            return self._datagram(client, vip)
        options = self._random.choice(_WINDOW_SCALES)
        step = self._segment(client, vip, SYN, flow.sequence, 0, options=options)
        flow.sequence += 1
        return step

    def _flow(self, protocol: int, client: End, vip: End) -> _Flow | None:
        for flow in self._flows:
            if (flow.protocol, flow.client, flow.vip) == (protocol, client, vip):
                return flow
        return None

    def _client_speaks(self) -> Step:
        if not self._flows:
            return self._open()
        flow = self._asked = self._random.choice(self._flows)
        if flow.protocol == UDP:
            return self._datagram(flow.client, flow.vip)
        flags, data = self._flags(), self._data()
        sequence = flow.sequence + self._random.choice(_OFFSETS)
        acknowledgement = flow.backend_sequence + self._random.choice(_OFFSETS)
        flow.sequence += len(data) + bool(flags & FIN)
        return self._segment(flow.client, flow.vip, flags, sequence, acknowledgement, data)

    def _backend_speaks(self) -> Step:
        known = [flow for flow in self._flows if flow.backend is not None]
        if not known:
            return self._open()
        flow = self._random.choice(known[-6:])
        assert flow.backend is not None
        assert flow.source is not None
        if flow.protocol == UDP:
            return self._datagram(flow.backend, flow.source)
        flags = SYN | ACK if self._random.random() < 0.4 else self._flags()
        data = b"" if flags & SYN else self._data()
        options = self._random.choice(_WINDOW_SCALES) if flags & SYN else b""
        sequence = flow.backend_sequence + self._random.choice(_OFFSETS)
        acknowledgement = flow.sequence + self._random.choice(_OFFSETS)
        if flags & SYN:
            sequence, acknowledgement = flow.backend_sequence, flow.sequence
        flow.backend_sequence += len(data) + bool(flags & (SYN | FIN))
        return self._segment(flow.backend, flow.source, flags, sequence, acknowledgement, data, options)

    def _flags(self) -> int:
        return self._random.choice(_ODD_FLAGS if self._random.random() < 0.04 else _FLAGS)

    def _data(self) -> bytes:
        length = self._random.choice((0, 0, 1, 7, 500))
        if self._random.random() < 0.03:
            length = self._random.choice((1_359, 1_360, 1_361, MTU - 40, MTU - 20))
        return bytes([self._random.randrange(256)]) * length

    def _number(self) -> int:
        return self._random.choice((0, 1_000, 0x7FFF_FFFF, 0xFFFF_FFFE, self._random.randrange(1 << 32)))

    def _segment(
        self,
        source: End,
        destination: End,
        flags: int,
        sequence: int,
        acknowledgement: int,
        data: bytes = b"",
        options: bytes = b"",
    ) -> Step:
        options += b"\0" * (-len(options) % 4)
        body = tcp(source, destination, flags, sequence, acknowledgement, data, options)
        return self._packet(source.ip, destination.ip, TCP, body)

    def _datagram(self, source: End, destination: End) -> Step:
        body = udp(source, destination, self._data(), summed=self._random.random() < 0.8)
        return self._packet(source.ip, destination.ip, UDP, body)

    def _packet(self, source: bytes, destination: bytes, protocol: int, body: bytes) -> Step:
        ttl = self._random.choice((0, 1, 2, 255)) if self._random.random() < 0.03 else 64
        options = extensions = b""
        if self._random.random() < 0.03:
            options, extensions = bytes.fromhex("94040000"), bytes.fromhex("3c00010400000000")
        whole = packet(source, destination, protocol, body, ttl=ttl, options=options, extensions=extensions)
        return Packet(*framed(source, whole))

    # -- all the rest --------------------------------------------------------------------------

    def _stray(self) -> Step:
        """Of no connection that was begun here: to a service, to a backend, or from one."""
        service = self._random.choice(self.plan.services)
        client = End.of(self._random.choice(self._clients).at(self._random.choice(_PORTS)))
        vip = End(service.address.ip, service.address.port)
        backend = service.backends[self._random.randrange(len(service.backends))].address
        server = End(backend.ip, backend.port)
        pairs = [(client, vip), (client, vip), (client, server)]
        if self._random.random() < 0.3:
            pairs = [(client, End(vip.ip, 9)), (vip, client), (server, vip)]
        source, destination = self._random.choice(pairs)
        if service.protocol == Protocol.UDP:
            return self._datagram(source, destination)
        flags = self._random.choice((*_FLAGS, *_ODD_FLAGS))
        return self._segment(source, destination, flags, self._number(), self._number(), self._data())

    def _error(self) -> Step:
        """An ICMP error about something that came out, from who got it or from a router on the way."""
        if not self._sent:
            return self._open()
        frame = self._random.choice(self._sent)
        seen, quoted = ends(frame), frame[IP:]
        if seen is None:
            return self._damaged()
        four = len(seen.source.ip) == 4
        if self._random.random() < 0.5:
            quoted = quoted[: (20 if four else 40) + self._random.choice((8, 20, 7, 0))]
        kinds = (
            ((3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0)) if four else ((1, 0), (1, 4), (2, 0))
        )
        kind, code = self._random.choice(kinds)
        routers = (self._net.border, self._net.router)
        origin = self._random.choice((seen.destination.ip, *(End.of(router).ip for router in routers)))
        to = seen.source.ip if self._random.random() < 0.9 else End.of(self._net.client).ip
        body = icmp(origin, to, kind, code, self._random.choice((0, 1_400)), quoted)
        return self._packet(origin, to, ICMP if four else ICMPV6, body)

    def _fragments(self) -> Step:
        """A packet in pieces, which come in some order, with others between."""
        if not self._flows:
            return self._open()
        flow = self._asked = self._random.choice(self._flows)
        source, destination = flow.client, flow.vip
        if flow.backend is not None and flow.source is not None and self._random.random() < 0.5:
            source, destination, self._asked = flow.backend, flow.source, None
        data = bytes(self._random.choice((100, 800)))
        if flow.protocol == UDP:
            body = udp(source, destination, data, summed=self._random.random() < 0.8)
        else:
            body = tcp(source, destination, PSH | ACK, flow.sequence, flow.backend_sequence, data)
        self._identification = (self._identification + self._random.choice((0, 1, 1))) & 0xFFFF
        size = self._random.choice((8, 16, 24, 48, 64))
        cuts = [0, size, size + self._random.choice((8, 32)), len(body)]
        pieces = [
            packet(
                source.ip,
                destination.ip,
                flow.protocol,
                body[start:end],
                identification=self._identification,
                more=end < len(body),
                offset=start,
            )
            for start, end in pairwise(cuts)
        ]
        if self._random.random() < 0.2:
            self._random.shuffle(pieces)
        self._pending = [(source.ip, piece) for piece in pieces]
        return self._next_fragment()

    def _next_fragment(self) -> Step:
        source, piece = self._pending.pop(0)
        return Packet(*framed(source, piece))

    def _damaged(self) -> Step:
        if not self._received:
            return self._open()
        packet = self._random.choice(self._received)
        return Packet(packet.side, mutations.damage(self._random, packet.frame))

    def _again(self) -> Step:
        if not self._received:
            return self._open()
        return self._random.choice(self._received)

    def _wait(self) -> Step:
        return Wait(STEP * self._random.choice((1, 1, 1, 1, 2, 2, 3, 4, 10, 26)))

    def _replan(self) -> Step:
        self.plan, removes = changed(self._random, self._net, self.plan)
        return Replan(self.plan, forget=removes or self._random.random() < 0.5)


def _whole(frame: bytes) -> bytes:
    """The frame with Don't Fragment where it is longer than the smallest MTU."""
    if len(frame) <= IP + NARROW_MTU or frame[IP] >> 4 != 4:
        return frame
    return frame[: IP + 6] + bytes([frame[IP + 6] | 0x40]) + frame[IP + 7 :]
