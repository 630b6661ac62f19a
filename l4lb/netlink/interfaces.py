"""Which interfaces lead where: those to attach to, and the one to put a VIP on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from l4lb.netlink.state import LOOPBACK_INDEX, KernelState, Link, Route, RouteKind
from l4lb.wire import ipv6

_NONE: Final[frozenset[int]] = frozenset()

_Key = TypeVar("_Key", bytes, int)


class NoInterfaceError(Exception):
    """No interface is fit for an address. The message is one line for people."""


class Ways:
    """Which interfaces lead to an address, by a snapshot's routes. Made once from all of them, and then as
    many look-ups an address as there are lengths of prefixes."""

    __slots__ = ("_holders", "_levels")

    def __init__(self, routes: Iterable[Route]) -> None:
        """Order the routes by their prefixes."""
        self._holders: dict[bytes, frozenset[int]] = {}  # an address of this host -> who has it
        levels: dict[tuple[int, int], dict[int, frozenset[int]]] = {}
        alone: dict[int, frozenset[int]] = {}  # one for all routes of a link: there may be a million
        for route in routes:
            if route.kind is RouteKind.UNREACHABLE or route.index in (0, LOOPBACK_INDEX):
                continue
            this = alone.setdefault(route.index, frozenset((route.index,)))
            bits = 8 * len(route.prefix)
            if route.kind is RouteKind.LOCAL and route.length == bits:
                _add(self._holders, route.prefix, this)
            else:
                prefix = int.from_bytes(route.prefix, "big") >> (bits - route.length)
                _add(levels.setdefault((bits, route.length), {}), prefix, this)
        # By the size of an address in bytes, longest prefix first: how far to shift, and the prefixes.
        self._levels: dict[int, list[tuple[int, dict[int, frozenset[int]]]]] = {4: [], 16: []}
        for bits, length in sorted(levels, reverse=True):
            self._levels[bits // 8].append((bits - length, levels[bits, length]))

    def interfaces(self, links: Iterable[Link], addresses: Iterable[bytes]) -> list[str]:
        """Names of the interfaces with a route to any of these addresses, in the order of their index.

        An address of this host (a VIP) counts for the interface that has it, and for the one that would
        lead to it otherwise: its subnet's, or a router's where the address is on a dummy or a bridge. Of
        several routes with the same prefix all count, and links without carrier too: packets may come by
        any of them later. Loopback never counts.
        """
        indices = {index for address in addresses for index in self._leading_to(address)}
        return [link.name for link in sorted(links, key=lambda link: link.index) if link.index in indices]

    def _leading_to(self, address: bytes) -> frozenset[int]:
        holders = self._holders.get(address, _NONE)
        value = int.from_bytes(address, "big")
        for shift, prefixes in self._levels[len(address)]:
            if (found := prefixes.get(value >> shift)) is not None:
                return found | holders
        return holders


def _add(prefixes: dict[_Key, frozenset[int]], key: _Key, one: frozenset[int]) -> None:
    others = prefixes.get(key)
    prefixes[key] = one if others is None else others | one


def interface_for(state: KernelState, address: bytes, name: str | None = None) -> Link:
    """The link to put an address on: the one named, or else the one whose subnet contains the
    address (the longest such prefix), or else the one the default route leaves by.

    Raises:
        NoInterfaceError: there is none.
    """
    if name is not None:
        link = state.link(name)
        if link is None:
            raise NoInterfaceError(f"there is no interface {name}; create it or name another one")
        return link
    link = home_of(state, address)
    if link is None:
        raise NoInterfaceError(
            "no interface has a subnet that contains it and no default route leads out;"
            " give an interface an address of that subnet or name the interface"
        )
    return link


def home_of(state: KernelState, address: bytes) -> Link | None:
    """Where an address belongs if nobody names a link for it; see ``interface_for``."""
    return interface_with_subnet(state, address) or _way_out(state, address)


def interface_with_subnet(state: KernelState, address: bytes) -> Link | None:
    """The link whose subnet contains the address, the longest such prefix; None if there is none. IPv6's
    link-local subnet is every link's, and says nothing."""
    if len(address) == 16 and ipv6.is_link_local(address):
        return None
    links = _links(state)
    subnets = [
        (subnet.length, -subnet.index)
        for subnet in state.addresses
        if subnet.index in links
        and subnet.length < 8 * len(subnet.ip)
        and contains(subnet.ip, subnet.length, address)
    ]
    return links[-max(subnets)[1]] if subnets else None


def _way_out(state: KernelState, address: bytes) -> Link | None:
    """The link that the default route leaves by."""
    if len(address) == 16 and ipv6.is_link_local(address):
        return None
    links = _links(state)
    defaults = [
        (route.metric, route.index)
        for route in state.routes
        if route.length == 0
        and len(route.prefix) == len(address)
        and route.kind is RouteKind.UNICAST
        and route.index in links
    ]
    return links[min(defaults)[1]] if defaults else None


def _links(state: KernelState) -> dict[int, Link]:
    return {link.index: link for link in state.links if link.index != LOOPBACK_INDEX}


def contains(prefix: bytes, length: int, address: bytes) -> bool:
    """True if the first ``length`` bits of an address are those of a prefix of the same family."""
    if len(prefix) != len(address):
        return False
    shift = 8 * len(prefix) - length
    return int.from_bytes(prefix, "big") >> shift == int.from_bytes(address, "big") >> shift
