"""The pure core as an engine: the director alone, without sockets, without the fast path."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from random import Random

from l4lb.datapath.reports import counters
from l4lb.director.connection import Connection, Ends, Hop
from l4lb.director.director import Director
from l4lb.model import DropReason, Plan, Verdict
from l4lb.wire.frame import ETHERNET, FRAME_MAX, IP
from tests.conformance.case import Measured, Need, Row, Traffic
from tests.conformance.engines.engine import Engine, Result, added_up, learnt
from tests.conformance.world import GATEWAY_MAC, Host, Side, route

_STALE = bytes(range(256)) * (FRAME_MAX // 256 + 1)
_START = 1_000.0  # seconds; anything but zero, which could pass for "never"


class PureEngine(Engine):
    """``Director.process`` for every frame. The buffer is used again and again, as the worker's is:
    behind a frame lies what was there before."""

    name = "pure"
    offers = frozenset(Need)
    kind = Director

    def __init__(self) -> None:
        self._sides: dict[int, Side] = dict(enumerate(Side, start=2))  # by interface index
        self._buffer = bytearray(FRAME_MAX)
        self.reset()

    def reset(self) -> None:
        """See ``Engine``."""
        self._hops: dict[bytes, Hop] = {}
        self._now = _START
        self._director = self.kind(self._now, self._route, self.random())
        self._dropped: Counter[DropReason] = Counter()

    def random(self) -> Random:
        """What the director draws from."""
        return Random(0)

    def configure(self, plan: Plan) -> None:
        """See ``Engine``."""
        self._director.configure(plan)

    def send(self, frame: bytes, side: Side) -> Result:
        """See ``Engine``."""
        buffer, end = self._buffer, len(frame)
        buffer[:] = frame + _STALE[end : len(buffer)]
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
        now = Counter(self._director.drops)
        now[DropReason.HALF_OPEN_EVICTED] = self._director.table.evicted
        before, self._dropped = self._dropped, now
        return now - before

    def _route(self, address: bytes) -> Hop | None:
        hop = self._hops.get(address)
        if hop is None:
            found = route(str(ip_address(address)))
            if found is None:
                return None
            index = next(index for index, side in self._sides.items() if side is found.side)
            hop = self._hops[address] = Hop(index, ip_address(found.address).packed, found.mtu)
            ethertype = "0800" if len(address) == 4 else "86dd"
            hop.header = bytes.fromhex((found.mac + GATEWAY_MAC[found.side]).replace(":", "") + ethertype)
        return hop


def _row(connection: Connection) -> Row:
    ends = Ends(connection.original, connection.reply)
    client, backend, source = (Host(end.host, end.port) for end in (ends.client, ends.backend, ends.source))
    return Row(client, backend, connection.state, source)
