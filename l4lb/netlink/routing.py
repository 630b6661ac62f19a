"""Next hops by longest prefix match over a snapshot of the kernel's routes.

A table is built once from a snapshot and never changes. It follows the kernel (net/ipv4/fib_trie.c,
net/ipv6/ip6_fib.c) where the tables local and main are looked up in that order, with these limits:

- A next hop whose link is down or without carrier is not used, whatever the sysctl
  ``ignore_routes_with_linkdown`` says.
- Of a multipath route the first usable next hop is taken: no balancing between gateways.
- Local and main are one table. An AnyIP prefix (``local 10.0.0.0/8 dev lo``) therefore gives way to a
  longer prefix in main, as it does in the kernel's IPv4 lookup before the first policy rule is added.
- TOS and source-specific routes are left out by whoever made the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from l4lb.netlink.state import Link, Route, RouteKind


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where to send a packet."""

    index: int  # of the link
    address: bytes  # to resolve on that link: the gateway, or the destination itself
    source: bytes | None  # the route's preferred source address
    mtu: int  # largest IP packet in bytes


class _Match(NamedTuple):
    """What becomes of a packet. Without a hop it goes nowhere, or to this host if ``local``."""

    hop: NextHop | None = None
    on_link: bool = False  # the hop's address is the destination
    local: bool = False


_NOWHERE: Final = _Match()  # no route, or one that refuses
_LOCAL: Final = _Match(local=True)

_Level = tuple[int, dict[int, _Match]]
"""The prefixes of one length: how far to shift a destination right, and the winner of each prefix."""


class RoutingTable:
    """Routes to look destinations up in."""

    __slots__ = ("_levels",)

    def __init__(self, routes: Iterable[Route], links: Iterable[Link]) -> None:
        """Order the routes and drop those that no packet could take now."""
        by_index = {link.index: link for link in links}
        levels: dict[tuple[int, int], dict[int, _Match]] = {}
        # Stable: among equals the kernel's own order decides. Local comes before main.
        for route in sorted(routes, key=lambda r: (r.kind is not RouteKind.LOCAL, r.metric)):
            match = _match(route, by_index)
            if match is not None:
                bits = 8 * len(route.prefix)
                prefix = int.from_bytes(route.prefix, "big") >> (bits - route.length)
                levels.setdefault((bits, route.length), {}).setdefault(prefix, match)
        # By the size of an address in bytes, longest prefix first.
        self._levels: dict[int, list[_Level]] = {4: [], 16: []}
        for bits, length in sorted(levels, reverse=True):
            self._levels[bits // 8].append((bits - length, levels[bits, length]))

    def lookup(self, destination: bytes) -> NextHop | None:
        """The next hop of a destination (4 or 16 bytes).

        None if there is no route, if it is refused, or if it is this host itself (``is_local``).
        """
        match = self._find(destination)
        hop = match.hop
        if match.on_link and hop is not None:
            return NextHop(hop.index, destination, hop.source, hop.mtu)
        return hop

    def is_local(self, destination: bytes) -> bool:
        """True if the kernel keeps packets to this destination (4 or 16 bytes) for the host itself."""
        return self._find(destination).local

    def _find(self, destination: bytes) -> _Match:
        value = int.from_bytes(destination, "big")
        for shift, prefixes in self._levels[len(destination)]:
            match = prefixes.get(value >> shift)
            if match is not None:
                return match
        return _NOWHERE


def _match(route: Route, links: Mapping[int, Link]) -> _Match | None:
    """What a route makes of a packet; None if it cannot take one now."""
    if route.kind is RouteKind.LOCAL:
        return _LOCAL
    if route.kind is RouteKind.UNREACHABLE:
        return _NOWHERE
    link = links.get(route.index)
    if link is None or not link.up:
        return None
    # A frame larger than the link's MTU could not be sent, so a larger MTU of the route has no effect.
    mtu = min(route.mtu, link.mtu) if route.mtu else link.mtu
    hop = NextHop(route.index, route.gateway or b"", route.source, mtu)
    return _Match(hop, on_link=route.gateway is None)
