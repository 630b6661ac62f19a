"""What a hostile network, and the people in front of the gateway, may do: moves of a random run.

Addresses, ports and numbers come from small sets, so that packets meet: replies answer what was
really forwarded, errors quote it, fragments and damage are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from l4lb.model import Endpoint
from tests.property.effort import weighted
from tests.property.traffic import BACKENDS, Run, at, plan
from tests.unit.director import packets
from tests.unit.director.gateway import BACKEND, BACKEND6, OTHER, VIP, VIP6
from tests.unit.director.packets import ACK, FIN, PSH, RST, SYN, TCP, UDP, Sent

Shape = dict[str, Any]
"""Fields of ``Sent``."""


def _vip(client: Endpoint, port: int) -> Endpoint:
    return at(VIP if client.version == 4 else VIP6, port)


def _send(run: Run, sent: Sent) -> None:
    run.pass_on(sent.frame())
    run.remember(sent)


@dataclass(frozen=True)
class Open:
    """A client's packet to a service, of whatever kind."""

    client: Endpoint
    port: int
    protocol: int
    flags: int
    shape: Shape

    def __call__(self, run: Run) -> None:
        vip = _vip(self.client, self.port)
        _send(run, Sent(self.client, vip, protocol=self.protocol, flags=self.flags, **self.shape))


@dataclass(frozen=True)
class Handshake:
    """A connection opened as it should be."""

    client: Endpoint
    port: int
    protocol: int

    def __call__(self, run: Run) -> None:
        vip = _vip(self.client, self.port)
        syn = Sent(self.client, vip, protocol=self.protocol, sequence=999)
        run.forwarded.clear()
        _send(run, syn)
        if run.forwarded:
            _send(run, run.forwarded[0].back(flags=SYN | ACK, sequence=999, acknowledgement=1000))
            _send(run, replace(syn, flags=ACK, sequence=1000, acknowledgement=1000))


@dataclass(frozen=True)
class Flood:
    """First packets from many ports of one client."""

    client: Endpoint
    port: int
    protocol: int
    flags: int

    def __call__(self, run: Run) -> None:
        vip = _vip(self.client, self.port)
        for port in range(5000, 5009):
            sent = Sent(at(self.client, port), vip, protocol=self.protocol, flags=self.flags)
            run.pass_on(sent.frame())
        run.remember(sent)


@dataclass(frozen=True)
class Again:
    """A packet received before, once more or another of that connection."""

    which: int
    flags: int
    shape: Shape

    def __call__(self, run: Run) -> None:
        if run.received:
            sent = run.received[self.which % len(run.received)]
            _send(run, replace(sent, flags=self.flags, **self.shape))


@dataclass(frozen=True)
class Answer:
    """The answer to something that was forwarded."""

    which: int
    flags: int
    shape: Shape

    def __call__(self, run: Run) -> None:
        if run.forwarded:
            sent = run.forwarded[self.which % len(run.forwarded)]
            _send(run, sent.back(flags=self.flags, **self.shape))


@dataclass(frozen=True)
class FromBackend:
    """A backend's packet that nobody asked for."""

    client: Endpoint
    other: bool
    protocol: int
    flags: int
    shape: Shape

    def __call__(self, run: Run) -> None:
        backend = (OTHER if self.other else BACKEND) if self.client.version == 4 else BACKEND6
        _send(run, Sent(backend, self.client, protocol=self.protocol, flags=self.flags, **self.shape))


@dataclass(frozen=True)
class Pieces:
    """A packet received before, or the answer to one forwarded, in fragments, in any order."""

    answer: bool
    which: int
    identification: int
    first: int | None
    order: tuple[int, ...]

    def __call__(self, run: Run) -> None:
        known = run.forwarded if self.answer else run.received
        if not known:
            return
        sent = known[self.which % len(known)]
        if self.answer:
            sent = sent.back()
        sent = replace(sent, identification=self.identification, payload=b"z" * 300, checksum="full")
        frames = sent.fragments(120, first=self.first)
        for number in self.order:
            run.pass_on(bytearray(frames[number % len(frames)]))


@dataclass(frozen=True)
class Error:
    """An ICMP error that quotes something forwarded, as far as it does."""

    which: int
    length: int
    kind: int
    to_sender: bool
    ttl: int

    def __call__(self, run: Run) -> None:
        if not run.forwarded:
            return
        about = run.forwarded[self.which % len(run.forwarded)]
        ends = about.destination.ip, about.source.ip
        kind = self.kind if about.version == 4 else {3: 1, 11: 3, 12: 4}.get(self.kind, self.kind)
        quoted = about.packet()[: self.length]
        run.pass_on(
            packets.icmp_error(*ends[:: 1 if self.to_sender else -1], quoted, kind=kind, ttl=self.ttl)
        )


@dataclass(frozen=True)
class Damaged:
    """A packet received before, or an error about one forwarded, with bytes changed or cut off."""

    which: int
    changes: tuple[tuple[int, int], ...]
    cut: int
    error: bool

    def __call__(self, run: Run) -> None:
        if self.error and run.forwarded:
            about = run.forwarded[self.which % len(run.forwarded)]
            frame = packets.icmp_error(about.destination.ip, about.source.ip, about.packet()[:60])
        elif run.received:
            frame = run.received[self.which % len(run.received)].frame()
        else:
            return
        for offset, value in self.changes:
            frame[packets.VNET + offset % (len(frame) - packets.VNET)] = value
        run.pass_on(frame[: max(packets.VNET, len(frame) - self.cut)])


@dataclass(frozen=True)
class Noise:
    """Any bytes, behind a real Ethernet type or not."""

    start: bytes
    data: bytes

    def __call__(self, run: Run) -> None:
        run.pass_on(bytearray(self.start + self.data))


@dataclass(frozen=True)
class Pause:
    """Time passes."""

    seconds: float

    def __call__(self, run: Run) -> None:
        run.tick(self.seconds)


@dataclass(frozen=True)
class Reconfigure:
    """Backends go down or come up, services go or come back."""

    down: frozenset[Endpoint]
    absent: frozenset[str]

    def __call__(self, run: Run) -> None:
        run.gateway.configure(*plan(self.down, self.absent))


@dataclass(frozen=True)
class Flush:
    """One connection is reset by hand."""

    which: int

    def __call__(self, run: Run) -> None:
        connections = list(run.director.table)
        if connections:
            run.director.reset(connections[self.which % len(connections)])
            run.take()


def _possible(shape: Shape) -> Shape:
    """GSO frames come from a kernel, which makes them partial and larger than one segment."""
    gso = shape["gso_size"] < len(shape["payload"]) and shape["gso_size"]
    return {**shape, "gso_size": gso, "checksum": "partial"} if gso else {**shape, "gso_size": 0}


ports = st.sampled_from([1024, 1025, 8080, 40_000])
clients = st.builds(
    Endpoint,
    st.sampled_from(
        [bytes([10, 1, 0, 7]), bytes([10, 1, 0, 8]), VIP6.ip[:-1] + b"\7", VIP6.ip[:-1] + b"\x08"]
    ),
    ports,
)
nobodies = st.sampled_from([bytes(4), b"\xff" * 4, b"\xe0\0\0\1", b"\x7f\0\0\1", bytes(16), b"\xff" * 16])
others = st.sampled_from([VIP.ip, BACKEND.ip, VIP6.ip, BACKEND6.ip])
strangers = st.builds(Endpoint, nobodies | others, ports)
service_ports = st.sampled_from([80, 81, 82, 83, 443])
protocols = st.sampled_from([TCP, TCP, UDP])
usual_flags = st.sampled_from([SYN, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, SYN | ACK])
flags = weighted({usual_flags: 4, st.integers(0, 63): 1})
numbers = st.sampled_from([0, 1, 999, 1000, 1001, 70_000, 0x7FFF_FFFF, 0xFFFF_FFFF])
window_scales = st.sampled_from([7, 200]).map(lambda shift: bytes([1, 3, 3, shift]))
plain: st.SearchStrategy[Shape] = st.just(
    {"payload": b"hello", "gso_size": 0, "sequence": 1000, "acknowledgement": 1000}
)
odd: st.SearchStrategy[Shape] = st.fixed_dictionaries(
    {
        "ttl": st.sampled_from([64, 64, 64, 64, 2, 1, 0]),
        "payload": st.sampled_from([b"", b"x" * 700, b"y" * 1500]) | st.binary(max_size=9),
        "options": st.just(b"") | st.just(bytes([2, 4, 5, 180])) | window_scales,
        "sequence": numbers,
        "acknowledgement": numbers,
        "dont_fragment": st.booleans(),
        "identification": st.integers(0, 2),
        "checksum": st.sampled_from(["full", "full", "partial", "wrong", "none"]),
        "gso_size": st.sampled_from([0, 0, 0, 100, 1400]),
        "trailer": st.sampled_from([b"", b"", b"pad"]),
        "ip_options": st.sampled_from([b"", b"", b"\1\1\1\0"]),
        "extensions": st.sampled_from([(), (), ((60, b"\0\1\4" + bytes(4)),), ((44, bytes(7)),)]),
    }
).map(_possible)
shapes = plain | odd
which = st.integers(0, 7)

moves = weighted(
    {
        st.builds(Handshake, clients, service_ports, protocols): 6,
        st.builds(Again, which, flags, shapes): 4,
        st.builds(Answer, which, flags, shapes): 4,
        st.builds(Open, clients, service_ports, protocols, flags, shapes): 2,
        st.builds(Open, strangers, service_ports, protocols, flags, shapes): 1,
        st.builds(Flood, clients, service_ports, protocols, st.sampled_from([SYN, ACK])): 1,
        st.builds(FromBackend, clients, st.booleans(), protocols, flags, shapes): 1,
        st.builds(
            Pieces,
            st.booleans(),
            which,
            st.integers(0, 2),
            st.sampled_from([None, 8, 24, 40]),
            st.lists(st.integers(0, 4), min_size=1, max_size=6).map(tuple),
        ): 2,
        st.builds(
            Error,
            which,
            st.integers(0, 90) | st.just(2000),
            st.sampled_from([3, 11, 12, 5, 2]),
            st.booleans(),
            st.sampled_from([64, 1]),
        ): 2,
        st.builds(
            Damaged,
            which,
            st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=3).map(tuple),
            st.sampled_from([0, 0, 1, 7, 20, 40]),
            st.booleans(),
        ): 3,
        st.builds(
            Noise,
            st.sampled_from([bytes(22), bytes(22) + b"\x08\x00", bytes(22) + b"\x86\xdd"]),
            st.binary(max_size=120),
        ): 1,
        st.builds(Pause, st.sampled_from([0.1, 0.9, 5.0, 31.0, 61.0, 400.0])): 2,
        st.builds(
            Reconfigure,
            st.frozensets(st.sampled_from(BACKENDS), max_size=2),
            st.frozensets(st.sampled_from(["turn", "full", "flow", "least", "udp"]), max_size=1),
        ): 1,
        st.builds(Flush, which): 1,
    }
)
runs = st.lists(moves, min_size=20, max_size=60)
