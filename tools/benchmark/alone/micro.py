"""What the path of a packet costs in Python alone: no sockets, no network, one core, no root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from benchmark import BenchError
from benchmark.alone.frames import (
    ACK,
    FIN,
    FIN_ACK,
    SYN,
    SYN_ACK,
    VIP,
    backends,
    client,
    datagram,
    gateway,
    segment,
)
from benchmark.alone.timing import each
from benchmark.figures.statistics import Spread
from l4lb.director.director import Director
from l4lb.director.fastpath import fast_path
from l4lb.director.parse import parse
from l4lb.director.select import select
from l4lb.model import Endpoint, Key, Nat, Protocol, State, Table, Verdict
from l4lb.schedulers import SCHEDULERS, Candidate, compile_selection
from l4lb.wire.frame import FRAME_MAX

_PACKETS: Final = 50_000  # in one repeat
_CONNECTIONS: Final = 2_000
_SELECTIONS: Final = 20_000
_POOL: Final = 100  # backends to choose from
_TURN: Final = Table(Key.TURN, (0,))


@dataclass(frozen=True, slots=True)
class Cost:
    """What one thing costs."""

    name: str
    title: str
    seconds: Spread
    per: str  # packet | connection | choice


def process(director: Director, frame: bytes, now: float = 0.0) -> bytes:
    """Put a frame through the clear way; the frame that comes out.

    Raises:
        BenchError: it was not forwarded: what would be timed is not what it should be.
    """
    buffer = bytearray(frame)
    verdict = director.process(buffer, len(frame), now)
    if verdict is not Verdict.FORWARD:
        raise BenchError(f"a packet that should be forwarded met {verdict.name}: {dict(director.drops)}")
    director.out.clear()
    return bytes(buffer)


def _answerer(director: Director, protocol: Protocol, original: bytes) -> tuple[Endpoint, Endpoint]:
    """The backend that has a connection, and what it sees as the client."""
    reply = director.table.by_protocol[protocol][original].reply
    width = (len(reply) - 4) // 2
    sport, dport = int.from_bytes(reply[-4:-2], "big"), int.from_bytes(reply[-2:], "big")
    return Endpoint(reply[:width], sport), Endpoint(reply[width : 2 * width], dport)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of established packet."""

    name: str
    title: str
    version: int = 4
    protocol: Protocol = Protocol.TCP
    nat: Nat = Nat.DESTINATION
    partial: bool = False


_KINDS: Final = (
    _Kind("established_tcp4", "established path, TCP, IPv4"),
    _Kind("established_udp4", "established path, UDP, IPv4", protocol=Protocol.UDP),
    _Kind("established_tcp6", "established path, TCP, IPv6", version=6),
    _Kind("established_full_nat", "established path, TCP, IPv4, full NAT", nat=Nat.FULL),
    _Kind("established_partial", "established path, TCP, IPv4, partial checksum", partial=True),
)


def _established(kind: _Kind) -> tuple[Director, bytes]:
    """A director with one established connection, and a packet of it from the client."""
    source, vip = client(0, kind.version), VIP[kind.version]
    director = gateway(_TURN, backends(1, kind.version), protocol=kind.protocol, nat=kind.nat)
    udp = kind.protocol is Protocol.UDP
    process(director, datagram(source, vip) if udp else segment(source, vip, SYN))
    (original, *_) = (key for key in director.table.by_protocol[kind.protocol] if key.startswith(source.ip))
    server, seen = _answerer(director, kind.protocol, original)
    if udp:
        process(director, datagram(server, seen))
        process(director, datagram(source, vip))  # a client that goes on makes it a flow
        return director, datagram(source, vip)
    process(director, segment(server, seen, SYN_ACK, acknowledgement=2))
    process(director, segment(source, vip, ACK, sequence=2, acknowledgement=2))
    return director, segment(source, vip, ACK, sequence=2, acknowledgement=2, partial=kind.partial)


def _fast_path(kind: _Kind) -> Cost:
    director, original = _established(kind)
    forward = fast_path(director.table)
    end = len(original)
    buffer = bytearray(FRAME_MAX)
    buffer[:end] = original
    hop = forward(buffer, end, 0.0)
    if hop is None or hop.header is None:
        raise BenchError(f"the fast path does not take '{kind.title}'")
    clear = bytearray(process(director, original))
    clear[10:24] = hop.header
    if buffer[:end] != clear:
        raise BenchError(f"the fast path and the clear way differ on '{kind.title}'")

    def work() -> None:
        for _ in range(_PACKETS):
            buffer[:end] = original
            forward(buffer, end, 1.0)

    def restore() -> None:
        for _ in range(_PACKETS):
            buffer[:end] = original

    return Cost(kind.name, kind.title, each(work, restore, _PACKETS), "packet")


def _clear_way() -> Cost:
    director, original = _established(_KINDS[0])
    end = len(original)
    buffer = bytearray(FRAME_MAX)

    def work() -> None:
        for _ in range(_PACKETS // 10):
            buffer[:end] = original
            director.process(buffer, end, 1.0)
            director.out.clear()

    def restore() -> None:
        for _ in range(_PACKETS // 10):
            buffer[:end] = original

    title = "the same packet through the six steps, TCP, IPv4"
    return Cost("clear_way", title, each(work, restore, _PACKETS // 10), "packet")


def _life(source: Endpoint, server: Endpoint) -> list[bytes]:
    """All frames of a connection that asks once and is closed by the backend."""
    question, answer = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nweb1\n"
    frames = []
    sent = {True: 1_000, False: 5_000}  # by the client, by the server: the next sequence number
    for from_client, flags, payload in (
        (True, SYN, b""),
        (False, SYN_ACK, b""),
        (True, ACK, b""),
        (True, ACK, question),
        (False, ACK, answer),
        (True, ACK, b""),
        (False, FIN_ACK, b""),
        (True, FIN_ACK, b""),
        (False, ACK, b""),
    ):
        frames.append(
            segment(
                *((source, VIP[4]) if from_client else (server, source)),
                flags,
                sequence=sent[from_client],
                acknowledgement=sent[not from_client] if flags & ACK else 0,
                payload=payload,
            )
        )
        sent[from_client] += len(payload) + bool(flags & (SYN | FIN))
    return frames


def _new_connections() -> Cost:
    """From SYN to TIME_WAIT, each packet by the way it takes in the packet process."""
    servers = backends(3)
    turns = Table(Key.TURN, tuple(range(len(servers))))
    lives = [_life(client(number), servers[number % len(servers)]) for number in range(_CONNECTIONS)]
    frames = [frame for life in lives for frame in life]
    buffer = bytearray(FRAME_MAX)

    def work() -> None:
        director = gateway(turns, servers)
        forward = fast_path(director.table)
        for frame in frames:
            end = len(frame)
            buffer[:end] = frame
            if forward(buffer, end, 0.0) is None:
                director.process(buffer, end, 0.0)
                director.out.clear()
        states = {connection.state for connection in director.table}
        if len(director.table) != _CONNECTIONS or states != {State.TIME_WAIT}:
            raise BenchError(f"connections did not end as they should: {states}, {dict(director.drops)}")

    def restore() -> None:
        for frame in frames:
            buffer[: len(frame)] = frame

    title = "a connection's whole life, 9 packets"
    return Cost("connection", title, each(work, restore, _CONNECTIONS), "connection")


def _select(scheduler: str) -> Cost:
    servers = backends(_POOL)
    random = Random(1)
    candidates = [Candidate(index, server, 1 + index % 3) for index, server in enumerate(servers)]
    director = gateway(compile_selection(scheduler, candidates), servers)
    (service,) = director.services
    arrivals = []
    for number in range(_SELECTIONS):
        frame = segment(client(number), VIP[4], SYN)
        packet = parse(bytearray(frame), len(frame))
        assert packet is not None
        arrivals.append(packet)

    def work() -> None:
        for packet in arrivals:
            select(service, packet, 0.0, random)

    def loop() -> None:
        for _ in arrivals:
            pass

    title = f"choosing among {_POOL} backends, {scheduler}"
    return Cost(f"select_{scheduler}", title, each(work, loop, _SELECTIONS), "choice")


STEPS: Final[Sequence[Callable[[], Cost]]] = (
    *(lambda kind=kind: _fast_path(kind) for kind in _KINDS),
    _clear_way,
    _new_connections,
    *(lambda name=name: _select(name) for name in SCHEDULERS),
)
"""Each measures one cost; half a second to two seconds."""


def established(costs: Sequence[Cost]) -> float | None:
    """Seconds a packet of the slowest kind of established packet; None if none was measured."""
    names = {kind.name for kind in _KINDS}
    return max((cost.seconds.median for cost in costs if cost.name in names), default=None)
