"""Fragments: only the first one shows the ports, so the others follow it.

The first fragment of a datagram goes the way of any packet and leaves a note of its connection and
direction; later ones are translated by that note. One that arrives before the first waits, in small
numbers and for a bounded time (RFC 791 3.2: reassembly gives up too). Nothing is reassembled.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from l4lb.director.connection import Connection
from l4lb.director.parse import Packet

LIFETIME: Final = 30.0
"""Seconds a datagram is remembered, as ``net.ipv4.ipfrag_time``."""

WAITING_EACH: Final = 48
"""Fragments that may wait for one first fragment: a 64 KB datagram at an MTU of 1,500 has 45."""

WAITING_BYTES: Final = 4 << 20
"""Bytes of all waiting fragments, as ``net.ipv4.ipfrag_high_thresh``."""

DatagramKey = tuple[bytes, bytes, int, int]


class Datagram:
    """What is known of one fragmented datagram. Known, and without a connection, it is the host's."""

    __slots__ = ("connection", "expires", "from_client", "known", "waiting")

    def __init__(self, expires: float) -> None:
        self.known = False  # its first fragment was seen
        self.connection: Connection | None = None
        self.from_client = False
        self.expires = expires
        self.waiting: list[tuple[bytearray, int]] = []  # copies of frames, and where each ends


class Fragments:
    """Datagrams under way, oldest first; bounded in number and bytes."""

    __slots__ = ("_bytes", "_datagrams", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._datagrams: OrderedDict[DatagramKey, Datagram] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._datagrams)

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
        datagram = self._find_or_add(packet, now)
        if datagram is None:
            return []
        datagram.known, datagram.connection, datagram.from_client = True, connection, from_client
        waiting, datagram.waiting = datagram.waiting, []
        self._bytes -= sum(len(frame) for frame, _ in waiting)
        return waiting

    def later(self, packet: Packet, now: float) -> Datagram | None:
        """What is known about the datagram of a later fragment, if its first one was seen."""
        self.expire(now)
        datagram = self._datagrams.get(self._key(packet))
        return datagram if datagram is not None and datagram.known else None

    def wait(self, frame: bytearray, packet: Packet, now: float) -> bool:
        """Keep a copy of a later fragment until its first one comes; False if there is no room."""
        datagram = self._find_or_add(packet, now)
        size = packet.end
        if datagram is None or len(datagram.waiting) >= WAITING_EACH or self._bytes + size > WAITING_BYTES:
            return False
        datagram.waiting.append((frame[:size], size))
        self._bytes += size
        return True

    def expire(self, now: float) -> int:
        """Forget old datagrams; how many fragments were still waiting."""
        lost = 0
        while self._datagrams:
            key, datagram = next(iter(self._datagrams.items()))
            if datagram.expires > now:
                break
            del self._datagrams[key]
            lost += len(datagram.waiting)
            self._bytes -= sum(len(frame) for frame, _ in datagram.waiting)
        return lost

    def _find_or_add(self, packet: Packet, now: float) -> Datagram | None:
        self.expire(now)
        key = self._key(packet)
        datagram = self._datagrams.get(key)
        if datagram is None and len(self._datagrams) < self.limit:
            datagram = self._datagrams[key] = Datagram(now + LIFETIME)
        return datagram
