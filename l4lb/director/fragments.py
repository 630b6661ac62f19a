"""Fragments: only the first one shows the ports, so the others follow it.

The first fragment of a datagram goes the way of any packet and leaves a note of its connection and
direction; later ones are translated by that note. One that arrives before the first waits, in small
numbers and for a bounded time (RFC 791 3.2: reassembly gives up too). Nothing is reassembled.

Where there is no room the oldest gives way, and who waits before who is known: forged fragments then
only shorten the time that honest ones have, and those arrive within milliseconds.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, NamedTuple

from l4lb.director.connection import Connection
from l4lb.director.parse import Packet
from l4lb.model import DropReason

LIFETIME: Final = 30.0
"""Seconds a datagram is remembered, as ``net.ipv4.ipfrag_time``."""

WAITING_EACH: Final = 48
"""Fragments that may wait for one first fragment: a 64 KB datagram at an MTU of 1,500 has 45."""

WAITING_BYTES: Final = 4 << 20
"""Bytes of all waiting fragments, as ``net.ipv4.ipfrag_high_thresh``."""

DatagramKey = tuple[bytes, bytes, int, int]


class Datagram(NamedTuple):
    """A datagram whose first fragment was seen."""

    connection: Connection | None  # None: it is the host's
    from_client: bool
    expires: float


class _Waiting(NamedTuple):
    """Fragments of a datagram whose first one was not: copies of frames, and where each ends."""

    fragments: list[tuple[bytearray, int]]
    expires: float


class Fragments:
    """Datagrams under way; bounded in number and bytes."""

    __slots__ = ("_bytes", "_known", "_lost", "_waiting", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._known: OrderedDict[DatagramKey, Datagram] = OrderedDict()  # oldest first, as the other
        self._waiting: OrderedDict[DatagramKey, _Waiting] = OrderedDict()
        self._bytes = 0
        self._lost: Counter[DropReason] = Counter()

    def __len__(self) -> int:
        return len(self._known) + len(self._waiting)

    @staticmethod
    def _key(packet: Packet) -> DatagramKey:
        # IPv6 leaves the protocol out (RFC 8200 4.5): behind extension headers only the first
        # fragment shows it.
        protocol = packet.protocol if packet.version == 4 else 0
        return packet.source, packet.destination, protocol, packet.identification

    def first(
        self, packet: Packet, connection: Connection | None, from_client: bool, now: float
    ) -> list[tuple[bytearray, int]]:
        """The first fragment was seen, as part of ``connection``, or as the host's own if that is
        None: the fragments that waited for it."""
        self.expire(now)
        key = self._key(packet)
        self._known.pop(key, None)
        fragments = self._take(key)
        self._make_room()
        self._known[key] = Datagram(connection, from_client, now + LIFETIME)
        return fragments

    def later(self, packet: Packet, now: float) -> Datagram | None:
        """What is known about the datagram of a later fragment, if its first one was seen."""
        self.expire(now)
        return self._known.get(self._key(packet))

    def wait(self, frame: bytearray, packet: Packet, now: float) -> bool:
        """Keep a copy of a later fragment until its first one comes; False if there is no room."""
        self.expire(now)
        key = self._key(packet)
        if key not in self._waiting:
            self._make_room()
            self._waiting[key] = _Waiting([], now + LIFETIME)
        fragments, size = self._waiting[key].fragments, packet.end
        if len(fragments) >= WAITING_EACH:
            return False
        while self._bytes + size > WAITING_BYTES:
            oldest = next(iter(self._waiting))
            if oldest == key:
                return False
            self._give_up(oldest, DropReason.FRAGMENTS_FULL)
        fragments.append((frame[:size], size))
        self._bytes += size
        return True

    def expire(self, now: float) -> None:
        """Forget what is old."""
        while self._known and next(iter(self._known.values())).expires <= now:
            self._known.popitem(last=False)
        while self._waiting:
            key, waiting = next(iter(self._waiting.items()))
            if waiting.expires > now:
                break
            self._give_up(key, DropReason.FRAGMENT_UNKNOWN)

    def take_lost(self) -> Counter[DropReason]:
        """Fragments that have waited in vain since this was last asked."""
        lost, self._lost = self._lost, Counter()
        return lost

    def _make_room(self) -> None:
        while len(self) >= self.limit:
            if self._waiting:
                self._give_up(next(iter(self._waiting)), DropReason.FRAGMENTS_FULL)
            else:
                self._known.popitem(last=False)

    def _give_up(self, key: DatagramKey, reason: DropReason) -> None:
        self._lost[reason] += len(self._take(key))

    def _take(self, key: DatagramKey) -> list[tuple[bytearray, int]]:
        """The fragments that wait, which no longer do."""
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return []
        self._bytes -= sum(end for _, end in waiting.fragments)
        return waiting.fragments
