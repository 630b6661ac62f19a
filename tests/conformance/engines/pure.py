"""The pure core as an engine: the director alone, without sockets, without the fast path."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from random import Random

from l4lb.datapath.raw.reports import counters, recall
from l4lb.director.connection import Connection, Ends, Hop
from l4lb.director.director import Director
from l4lb.model import DropReason, Endpoint, Plan, Recalled, Verdict
from l4lb.wire.frame import ETHERNET, FRAME_MAX, IP
from tests.conformance.case import Decided, Measured, Need, Row, Traffic
from tests.conformance.engines.engine import Engine, Result, added_up, decided, host, learnt
from tests.conformance.packets import VLAN, VLAN_ID, VNET
from tests.conformance.world import GATEWAY_MAC, Host, Side, packed_mac, route

_STALE = (bytes(range(256)) * (FRAME_MAX // 256 + 1))[:FRAME_MAX]
_START = 1_000.0  # seconds; anything but zero, which could pass for "never"


class PureEngine(Engine):
    """``Director.process`` for every frame. The buffer is used again and again, as the worker's is:
    behind a frame lies something else."""

    name = "pure"
    offers = frozenset(Need)
    kind = Director

    def __init__(self) -> None:
        self._sides: dict[int, Side] = dict(enumerate(Side, start=2))  # by interface index
        self._buffer = bytearray(_STALE)
        self._longest = 0  # frame: behind it the buffer is as it was
        self.reset()

    def reset(self) -> None:
        """See ``Engine``."""
        self._hops: dict[bytes, Hop] = {}
        self._now = _START
        self._director = self.kind(self._now, self._route, self.random())
        self._evicted = 0

    def random(self) -> Random:
        """What the director draws from."""
        return Random(0)

    def configure(self, plan: Plan) -> None:
        """See ``Engine``."""
        self._director.configure(plan)

    def send(self, frame: bytes, side: Side) -> Result:
        """See ``Engine``."""
        frame = _without_priority(frame)
        buffer, end = self._buffer, len(frame)
        self._longest = max(self._longest, end)
        buffer[: self._longest] = frame + _STALE[end : self._longest]
        out: list[tuple[Side, bytes]] = []
        verdict = self._decide(buffer, end, out)
        if verdict is Verdict.PASS:
            assert buffer[:end] == frame, "a packet that is left to the kernel was changed"
        handed_back = self._emit(out)
        return Result(verdict, out, self._drops(), handed_back)

    def _decide(self, buffer: bytearray, end: int, out: list[tuple[Side, bytes]]) -> Verdict:
        return self._director.process(buffer, end, self._now)

    def sweep(self, seconds: float, expected: int) -> Result:
        """See ``Engine``."""
        self._now += seconds
        self._director.tick(self._now)
        out: list[tuple[Side, bytes]] = []
        self._emit(out)
        return Result(None, out, self._drops())

    def connections(self) -> list[Row]:
        """See ``Engine``."""
        return [_row(connection) for connection in self._director.table]

    def traffic(self, backend: Host) -> Traffic:
        """See ``Engine``."""
        return added_up(backend, counters(self._director, 0, self._now))

    def measured(self, backend: Host) -> Measured:
        """See ``Engine``."""
        return learnt(backend, counters(self._director, 0, self._now))

    def recalled(self, service: str, client: Endpoint) -> Recalled:
        """See ``Engine``."""
        return recall(self._director, service, client, self._now)

    def decisions(self) -> list[Decided]:
        """See ``Engine``."""
        return [decided(each) for each in self._director.decisions]

    def _emit(self, out: list[tuple[Side, bytes]]) -> list[bytes]:
        """What the worker does with the director's output; the frames for the host."""
        handed_back = []
        for hop, frame, end in self._director.out:
            if hop is None:
                handed_back.append(bytes(frame[:end]))
                continue
            assert hop.header is not None
            frame[ETHERNET:IP] = hop.header
            out.append((self._sides[hop.index], bytes(frame[:end])))
        self._director.out.clear()
        return handed_back

    def _drops(self) -> Counter[DropReason]:
        """Since this was last asked."""
        evicted, self._evicted = self._evicted, self._director.table.evicted
        drops = Counter(self._director.drops)
        self._director.drops.clear()
        if self._evicted > evicted:
            drops[DropReason.HALF_OPEN_EVICTED] += self._evicted - evicted
        return drops

    def _route(self, address: bytes) -> Hop | None:
        hop = self._hops.get(address)
        if hop is None:
            found = route(str(ip_address(address)))
            if found is None:
                return None
            index = next(index for index, side in self._sides.items() if side is found.side)
            hop = self._hops[address] = Hop(index, ip_address(found.address).packed, found.mtu)
            ethertype = b"\x08\x00" if len(address) == 4 else b"\x86\xdd"
            hop.header = packed_mac(found.mac) + packed_mac(GATEWAY_MAC[found.side]) + ethertype
        return hop


def _row(connection: Connection) -> Row:
    ends = Ends(connection.original, connection.reply)
    return Row(host(ends.client), host(ends.backend), connection.state, host(ends.source))


def _without_priority(frame: bytes) -> bytes:
    """As the kernel hands it over: without a tag of VLAN 0."""
    tag = VNET + 12
    vlan = int.from_bytes(frame[tag + 2 : tag + 4], "big") & VLAN_ID
    return (
        frame if frame[tag : tag + 2] != VLAN.to_bytes(2, "big") or vlan else frame[:tag] + frame[tag + 4 :]
    )
