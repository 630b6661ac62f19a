"""A gateway under random traffic, and what must hold after any of it. The moves are in moves.py."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from l4lb.director.fastpath import fast_path
from l4lb.director.measure import in_handshake
from l4lb.director.states import HALF_OPEN, REUSABLE
from l4lb.model import (
    Costs,
    DropReason,
    Endpoint,
    Key,
    Limits,
    Nat,
    Protocol,
    ServicePlan,
    State,
    Table,
    Verdict,
    WhenBackendDown,
)
from l4lb.wire.frame import FRAME_MAX
from tests.unit.director import packets
from tests.unit.director.gateway import BACKEND, BACKEND6, OTHER, OTHER6, VIP, VIP6, Gateway, service
from tests.unit.director.packets import TCP, UDP, Sent

BACKENDS = (BACKEND, OTHER, BACKEND6, OTHER6)
LIMITS = Limits(half_open=6, established=8, affinity=3, fragments=4)
SNAT_PORTS = (20_000, 20_005)
MTU = 576


def at(vip: Endpoint, port: int) -> Endpoint:
    """Another port of a VIP."""
    return replace(vip, port=port)


def plan(
    down: frozenset[Endpoint] = frozenset(), absent: frozenset[str] = frozenset()
) -> list[ServicePlan]:
    """Services of every kind, with some backends down and some services gone."""
    services = []
    for vip, backends in ((VIP, (BACKEND, OTHER)), (VIP6, (BACKEND6, OTHER6))):
        up = tuple(i for i, backend in enumerate(backends) if backend not in down)
        make = partial(service, *backends, down=down)
        services += [
            make(name="turn", vip=vip, selection=Table(Key.TURN, up)),
            make(name="full", vip=at(vip, 81), selection=Table(Key.RANDOM, up), nat=Nat.FULL),
            make(name="flow", vip=at(vip, 82), selection=Table(Key.FLOW, up)),
            make(
                name="least",
                vip=at(vip, 83),
                selection=Costs(tuple((i, 65536) for i in up)),
                affinity_timeout=20.0,
                when_backend_down=WhenBackendDown.KEEP,
            ),
            make(name="udp", vip=vip, selection=Table(Key.SOURCE, up), protocol=Protocol.UDP),
            make(
                name="udp full",
                vip=at(vip, 81),
                selection=Table(Key.TURN, up),
                protocol=Protocol.UDP,
                nat=Nat.FULL,
            ),
        ]
    return [plan for plan in services if plan.name not in absent]


class Run:
    """A gateway, and what went in and came out of it lately."""

    def __init__(self, *, fast: bool) -> None:
        self.gateway = Gateway(*plan(), limits=LIMITS, snat_ports=SNAT_PORTS, mtu=MTU)
        self.director = self.gateway.director
        self.received: list[Sent] = []
        self.forwarded: list[Sent] = []
        self.out: list[tuple[int, bytes]] = []  # (interface, frame) of the last move, 0: handed back
        self._fast = fast_path(self.director.table) if fast else None

    def pass_on(self, frame: bytearray) -> None:
        """One frame through the fast path, if there is one, and the clear way, as worker.py does."""
        buffer = bytearray(b"\xa5" * FRAME_MAX)
        end = len(frame)
        buffer[:end] = frame
        behind = bytes(buffer[end:])
        hop = self._fast(buffer, end, self.gateway.now) if self._fast else None
        if hop is not None:
            self.out.append((hop.index, bytes(buffer[:end])))
        else:
            dropped, counted = self._dropped(), self._counted()
            self.director.process(buffer, end, self.gateway.now)
            assert self._counted() - counted == self._dropped() - dropped, "one reason for each drop"
            self.take()
        assert bytes(buffer[end:]) == behind, "wrote behind the frame"

    def _dropped(self) -> int:
        verdicts = self.director.verdicts
        return verdicts[Verdict.DROP] + verdicts[Verdict.REPLY]

    def _counted(self) -> int:
        """By reasons. Answers not given are counted besides."""
        drops = self.director.drops
        return sum(drops.values()) - drops[DropReason.RATE_LIMITED]

    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.gateway.now += seconds
        self.director.tick(self.gateway.now)
        self.take()

    def take(self) -> None:
        """Keep what the director has put out, as it would go onto the wire."""
        for hop, frame, end in self.director.out:
            if hop is not None:
                frame[packets.VNET : packets.IP] = hop.header or bytes(packets.ETHERNET)
            self.out.append((0 if hop is None else hop.index, bytes(frame[:end])))
        self.director.out.clear()

    def remember(self, sent: Sent) -> None:
        """Keep what went in and what came out, to be answered and quoted later."""
        self.received = [sent, *self.received[:7]]
        for index, frame in self.out:
            came_out = reread(frame) if index else None
            if came_out is not None:
                self.forwarded = [came_out, *self.forwarded[:7]]


def reread(frame: bytes) -> Sent | None:
    """A frame that came out as something that can be sent; None if it is not plain TCP or UDP."""
    at, four = packets.IP, frame[packets.IP] >> 4 == 4
    if four and (frame[at] != 0x45 or frame[at + 6] & 0x3F or frame[at + 7]):
        return None
    if frame[at + (9 if four else 6)] not in (TCP, UDP):
        return None
    seen = packets.read(frame)
    return Sent(
        seen.source,
        seen.destination,
        protocol=seen.protocol,
        flags=seen.flags,
        sequence=seen.sequence,
        acknowledgement=seen.acknowledgement,
        payload=seen.payload,
    )


def check_bounds(run: Run) -> None:
    """The tables agree with each other and stay within their limits."""
    table = run.director.table
    assert len(table.tcp) + len(table.udp) == 2 * len(table)
    assert len(table.half_open) <= LIMITS.half_open
    assert table.established <= LIMITS.established
    connections = list(table)
    assert len(set(connections)) == len(connections) == len(table)
    paths = {connection.path for connection in connections} | set(run.director.services.paths())
    half_open = [connection for connection in connections if connection.state in HALF_OPEN]
    assert sum(path.half_open for path in paths) == len(half_open)
    assert sum(path.established for path in paths) == table.established
    assert all(path.half_open >= 0 and path.established >= path.closed >= 0 for path in paths)
    # What is outstanding is what connections wait for, no more and no less.
    waits = [each for each in connections if each.asked is not None and not in_handshake(each)]
    for path in paths:
        asked = [each.asked for each in waits if each.path is path]
        assert path.outstanding == len(asked)
        assert path.asked == pytest.approx(sum(asked))
        assert path.responses.count == sum(path.responses.buckets)
    assert not any(each.state in REUSABLE for each in waits)
    # One that was reset before it was established stays where it was.
    assert {connection for connection in table.half_open if connection.state is not State.CLOSED} == set(
        half_open
    )
    assert all(connection in connection.bucket for connection in connections)
    assert len(run.director._fragments) <= LIMITS.fragments
    for clients in run.director.services.clients.values():
        assert len(clients) <= LIMITS.affinity + LIMITS.half_open


def check_empty(run: Run) -> None:
    """After the longest timeout nothing is left of any traffic."""
    paths = set(run.director.services.paths()) | {connection.path for connection in run.director.table}
    for seconds in (8_000.0, 0.0, 0.0, 10.0):
        run.tick(seconds)
    table = run.director.table
    assert len(table) == len(table.tcp) == len(table.udp) == len(table.half_open) == 0
    assert all(path.half_open == path.established == path.closed == path.outstanding == 0 for path in paths)
    assert all(path.asked == 0.0 for path in paths)
    assert not any(table._wheel._buckets.values())
    assert not len(run.director._fragments)
    assert run.director._fragments._bytes == 0
