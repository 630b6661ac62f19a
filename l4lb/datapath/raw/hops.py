"""Step 6, emit: from an address to a next hop, and frames that wait until it is known.

Mirrors the kernel's routes and neighbours as the control plane reports them. No I/O: what is to be
resolved is asked for through a callback, what can be sent is sent through the hop's own ``send``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from l4lb.datapath.raw.kernel_news import News
from l4lb.director.connection import Hop
from l4lb.model import DropReason
from l4lb.netlink.routing import RoutingTable
from l4lb.netlink.state import Link, Neighbour
from l4lb.wire.frame import ETHERTYPE_IPV4, ETHERTYPE_IPV6

WAITING_EACH: Final = 16
"""Frames that may wait for one neighbour."""

WAITING_ALL: Final = 1_024

PATIENCE: Final = 3.0
"""Seconds a frame waits: three requests a second apart, the kernel's own limit (mcast_solicit)."""

ASK_AGAIN: Final = 1.0
"""Seconds between two questions about the same unanswered neighbour."""

REFRESH: Final = 30.0
"""Seconds after which a known neighbour is confirmed: what we send by packet socket does not tell the
kernel that its entry is in use."""

REFRESH_AT_ONCE: Final = 200
"""Neighbours confirmed in a second: each costs the control plane a message to the kernel."""

CACHED_ADDRESSES: Final = 65_536

NEIGHBOURS: Final = 65_536
"""Neighbours that next hops are kept for. Forged sources of a large network on a link, an IPv6 /64 say,
make up as many as they like."""

Send = Callable[[memoryview | bytes | bytearray], int]


def is_ethernet(link: Link) -> bool:
    """True if frames on this link have Ethernet headers: tun and WireGuard have no addresses."""
    return len(link.mac) == 6


class NextHop(Hop):
    """A hop with a way out."""

    __slots__ = ("asked", "deadline", "send", "source_mac", "version", "waiting")

    def __init__(self, index: int, address: bytes, mtu: int, version: int, mac: bytes, send: Send) -> None:
        super().__init__(index, address, mtu)
        self.version = version  # of the packets: an IPv4 route may have an IPv6 gateway
        self.source_mac = mac
        self.send = send
        self.asked = float("-inf")
        self.deadline = 0.0  # of the frames that wait
        self.waiting: list[bytes] = []

    def learn(self, mac: bytes | None) -> None:
        """The neighbour's link-layer address is known, or no longer."""
        ethertype = ETHERTYPE_IPV4 if self.version == 4 else ETHERTYPE_IPV6
        self.header = None if mac is None else mac + self.source_mac + ethertype.to_bytes(2, "big")


class NextHops:
    """All next hops in use."""

    def __init__(
        self,
        resolve: Callable[[int, bytes], None],
        egress: Callable[[int], Send | None],
        count: Callable[[DropReason], None],
    ) -> None:
        """``resolve(index, ip)`` makes the kernel look for a neighbour; ``egress(index)`` gives the
        way out of an interface, None if it cannot be used; ``count`` counts a dropped frame."""
        self._resolve = resolve
        self._egress = egress
        self._count = count
        self._routes = RoutingTable((), ())
        self._macs: dict[int, bytes] = {}
        self._neighbours: dict[tuple[int, bytes], bytes] = {}
        # By neighbour: more than one where routes through it differ in MTU or version.
        self._hops: dict[tuple[int, bytes], list[NextHop]] = {}
        self._by_address: dict[bytes, NextHop] = {}
        self._with_waiting: set[NextHop] = set()
        self._waiting = 0
        self._next_refresh = float("-inf")

    def __len__(self) -> int:
        return sum(map(len, self._hops.values()))

    def renew(self) -> None:
        """Interfaces have other ways out now. Connections find their hops anew when next used; frames that
        wait go on waiting for the neighbour they were sent by, as in the kernel's queue."""
        self._go_on(self._interrupt())

    def follow(self, news: News) -> None:
        """Take over new links and routes, and renew all hops."""
        if news.links is None and not news.routes:
            return
        interrupted = self._interrupt()
        if news.links is not None:
            self._routes.take_links(news.links)
            self._macs = {link.index: link.mac for link in news.links if is_ethernet(link)}
        self._routes.take_routes(news.routes)
        self._go_on(interrupted)

    def _interrupt(self) -> list[tuple[NextHop, list[bytes]]]:
        """Forget all hops; those that frames wait for, with these."""
        interrupted = [(hop, self._take(hop)) for hop in tuple(self._with_waiting)]
        self._forget()
        return interrupted

    def _go_on(self, interrupted: Iterable[tuple[NextHop, list[bytes]]]) -> None:
        for before, frames in interrupted:
            hop = self._hop(before.index, before.address, before.mtu, before.version)
            if hop is None:
                for _ in frames:
                    self._count(DropReason.NO_ROUTE)
                continue
            hop.asked, hop.deadline, hop.waiting = before.asked, before.deadline, frames
            self._with_waiting.add(hop)
            self._waiting += len(frames)
            if hop.header is not None:
                self._release(hop)

    def learn(self, neighbours: Iterable[Neighbour]) -> None:
        """Neighbours have answered, moved or gone."""
        for neighbour in neighbours:
            if neighbour.mac is None:
                self._neighbours.pop((neighbour.index, neighbour.ip), None)
            else:
                self._neighbours[neighbour.index, neighbour.ip] = neighbour.mac
            for hop in self._hops.get((neighbour.index, neighbour.ip), ()):
                hop.learn(neighbour.mac)
                self._release(hop)

    def route(self, destination: bytes) -> NextHop | None:
        """The next hop towards an address, None without a usable route."""
        hop = self._by_address.get(destination)
        if hop is not None:
            return hop
        found = self._routes.lookup(destination)
        if found is None:
            return None
        hop = self._hop(found.index, found.address, found.mtu, 4 if len(destination) == 4 else 6)
        if hop is None:
            return None
        if len(self._by_address) >= CACHED_ADDRESSES:
            self._by_address.clear()
        self._by_address[destination] = hop
        return hop

    def _hop(self, index: int, address: bytes, mtu: int, version: int) -> NextHop | None:
        """The hop by a neighbour; None if its interface has no way out."""
        for hop in self._hops.get((index, address), ()):
            if hop.version == version and hop.mtu == mtu:
                return hop
        send = self._egress(index)
        if send is None or index not in self._macs:
            return None
        if len(self._hops) >= NEIGHBOURS:
            self._forget()
        hop = NextHop(index, address, mtu, version, self._macs[index], send)
        hop.learn(self._neighbours.get((index, address)))
        self._hops.setdefault((index, address), []).append(hop)
        return hop

    def wait(self, hop: NextHop, frame: bytes, now: float) -> None:
        """Keep a frame until the neighbour is known."""
        if now - hop.asked >= ASK_AGAIN:
            hop.asked = now
            self._resolve(hop.index, hop.address)
        if len(hop.waiting) >= WAITING_EACH or self._waiting >= WAITING_ALL:
            self._count(DropReason.NEIGHBOUR_QUEUE_FULL)
            return
        if not hop.waiting:
            hop.deadline = now + PATIENCE
            self._with_waiting.add(hop)
        hop.waiting.append(frame)
        self._waiting += 1

    def tick(self, now: float) -> None:
        """Ask again, give up, and confirm what has been known for long."""
        for hop in list(self._with_waiting):
            if hop.deadline <= now:
                self._give_up(hop, DropReason.NEIGHBOUR_UNREACHABLE)
            elif now - hop.asked >= ASK_AGAIN:
                hop.asked = now
                self._resolve(hop.index, hop.address)
        if now >= self._next_refresh:
            self._next_refresh = now + ASK_AGAIN
            self._refresh(now)

    def _refresh(self, now: float) -> None:
        """Confirm known neighbours, the ones due, in order, and not too many at once."""
        budget = REFRESH_AT_ONCE
        for hops in self._hops.values():
            for hop in hops:
                if hop.header is not None and now - hop.asked >= REFRESH:
                    if hop.asked > 0:
                        self._resolve(hop.index, hop.address)
                        budget -= 1
                    hop.asked = now
            if budget <= 0:
                return

    def _forget(self) -> None:
        """Forget all hops that no frame waits for. Whoever holds one finds it stale, and not fit for
        the fast path, and asks for it anew."""
        for neighbour, hops in list(self._hops.items()):
            if not any(hop.waiting for hop in hops):
                for hop in hops:
                    hop.stale = True
                    hop.header = None
                del self._hops[neighbour]
        self._by_address.clear()

    def _release(self, hop: NextHop) -> None:
        if hop.header is None:
            self._give_up(hop, DropReason.NEIGHBOUR_UNREACHABLE)
            return
        for frame in self._take(hop):
            try:
                hop.send(frame[:10] + hop.header + frame[24:])
            except OSError:
                self._count(DropReason.SEND_FAILED)

    def _give_up(self, hop: NextHop, reason: DropReason) -> None:
        for _ in self._take(hop):
            self._count(reason)

    def _take(self, hop: NextHop) -> list[bytes]:
        waiting, hop.waiting = hop.waiting, []
        self._waiting -= len(waiting)
        self._with_waiting.discard(hop)
        return waiting
