"""Next hops by longest prefix match over a snapshot of the kernel's routes.

A table is built from a snapshot, and changes only where it is told what has changed. It follows the kernel
(net/ipv4/fib_trie.c, net/ipv6/ip6_fib.c) where the tables local and main are looked up in that order, with
these limits:

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
from typing import Final

from l4lb.netlink.state import Link, Route, RouteKind

Prefix = tuple[bytes, int]
"""An address of 4 or 16 bytes, host bits zero, and a length in bits."""

_Level = tuple[int, dict[int, tuple[Route, ...]]]
"""The prefixes of one length: how far to shift a destination right, and each one's routes, best first."""

_NO_ROUTES: Final[tuple[Route, ...]] = ()


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where to send a packet."""

    index: int  # of the link
    address: bytes  # to resolve on that link: the gateway, or the destination itself
    source: bytes | None  # the route's preferred source address
    mtu: int  # largest IP packet in bytes


def by_prefix(routes: Iterable[Route]) -> dict[Prefix, tuple[Route, ...]]:
    """The routes of each prefix, in the kernel's order."""
    found: dict[Prefix, list[Route]] = {}
    for route in routes:
        found.setdefault((route.prefix, route.length), []).append(route)
    return {prefix: tuple(same) for prefix, same in found.items()}


class RoutingTable:
    """Routes to look destinations up in."""

    __slots__ = ("_levels", "_links", "_prefixes")

    def __init__(self, routes: Iterable[Route], links: Iterable[Link]) -> None:
        self._prefixes: dict[tuple[int, int], dict[int, tuple[Route, ...]]] = {}  # by bits and length
        self._levels: dict[int, list[_Level]]  # by the size of an address in bytes, longest prefix first
        self._links: dict[int, Link]
        self.take_links(links)
        self.take_routes(by_prefix(routes))

    def take_links(self, links: Iterable[Link]) -> None:
        """Use these links from now on."""
        self._links = {link.index: link for link in links}

    def take_routes(self, changed: Mapping[Prefix, tuple[Route, ...]]) -> None:
        """The routes of these prefixes from now on, in the kernel's order; () for one that has none."""
        for (address, length), routes in changed.items():
            bits = 8 * len(address)
            prefix = int.from_bytes(address, "big") >> (bits - length)
            prefixes = self._prefixes.setdefault((bits, length), {})
            if routes:
                # Stable: among equals the kernel's own order decides. Local comes before main.
                prefixes[prefix] = tuple(sorted(routes, key=_rank)) if len(routes) > 1 else routes
            else:
                prefixes.pop(prefix, None)
        self._levels = {4: [], 16: []}
        for (bits, length), prefixes in sorted(
            self._prefixes.items(), key=lambda each: each[0], reverse=True
        ):
            if prefixes:
                self._levels[bits // 8].append((bits - length, prefixes))

    def lookup(self, destination: bytes) -> NextHop | None:
        """The next hop of a destination (4 or 16 bytes).

        None if there is no route, if it is refused, or if it is this host itself (``is_local``).
        """
        route = self._find(destination)
        if route is None or route.kind is not RouteKind.UNICAST:
            return None
        link = self._links[route.index]
        # A frame larger than the link's MTU could not be sent, so a larger MTU of the route has no effect.
        mtu = min(route.mtu, link.mtu) if route.mtu else link.mtu
        return NextHop(route.index, route.gateway or destination, route.source, mtu)

    def is_local(self, destination: bytes) -> bool:
        """True if the kernel keeps packets to this destination (4 or 16 bytes) for the host itself."""
        route = self._find(destination)
        return route is not None and route.kind is RouteKind.LOCAL

    def _find(self, destination: bytes) -> Route | None:
        value = int.from_bytes(destination, "big")
        for shift, prefixes in self._levels[len(destination)]:
            for route in prefixes.get(value >> shift, _NO_ROUTES):
                if self._takes_packets(route):
                    return route
        return None

    def _takes_packets(self, route: Route) -> bool:
        if route.kind is not RouteKind.UNICAST:
            return True  # it keeps or refuses them, whatever its link
        link = self._links.get(route.index)
        return link is not None and link.up


def _rank(route: Route) -> tuple[bool, int]:
    return route.kind is not RouteKind.LOCAL, route.metric
