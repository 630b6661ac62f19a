"""What the kernel knows of the network, as plain values.

Frozen values only, made of integers, bytes and strings, so that a snapshot crosses a message channel
as tuples. No I/O and no netlink library: the packet process imports this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

LOOPBACK_INDEX: Final = 1
"""Index of ``lo`` in every network namespace (LOOPBACK_IFINDEX, include/net/flow.h)."""


class RouteKind(IntEnum):
    """What the kernel does with a packet that a route matches."""

    UNICAST = 0  # forwarded
    LOCAL = 1  # for this host: its addresses, broadcast and anycast addresses, AnyIP prefixes
    UNREACHABLE = 2  # refused: blackhole, prohibit, unreachable, throw, multicast, encapsulating routes


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    mac: bytes  # empty if the link has no link-layer addresses (tun, WireGuard)
    mtu: int  # largest IP packet in bytes
    up: bool  # administratively up and with carrier
    paired: bool = False  # a veth or netkit device whose other end is in another network namespace


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this host."""

    index: int  # of its link
    ip: bytes  # 4 or 16 bytes
    length: int  # prefix length in bits


@dataclass(frozen=True, slots=True)
class Route:
    """One next hop of one route of the tables main and local.

    A multipath route is one value for each of its next hops, in the kernel's order.
    """

    prefix: bytes  # 4 or 16 bytes, host bits zero
    length: int  # prefix length in bits
    index: int  # of the link it leaves by; 0 or loopback where it leaves by none
    gateway: bytes | None = None  # None: on link; 16 bytes for an IPv4 prefix is an RTA_VIA gateway
    source: bytes | None = None  # preferred source address
    metric: int = 0  # the lowest wins
    mtu: int = 0  # bytes; 0: the link's
    kind: RouteKind = RouteKind.UNICAST


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The link-layer address of a host on a link."""

    index: int  # of the link
    ip: bytes  # 4 or 16 bytes
    mac: bytes | None  # None: did not answer, or is forgotten


@dataclass(frozen=True, slots=True)
class KernelState:
    """A snapshot. The neighbours are those with a usable link-layer address."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()

    def link(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)


@dataclass(frozen=True, slots=True)
class Change:
    """What differs from the snapshot before.

    ``neighbours`` are the new values; a ``mac`` of None says that a host did not answer, or that the
    kernel has forgotten it.
    """

    links: bool = False
    addresses: bool = False
    routes: bool = False
    neighbours: tuple[Neighbour, ...] = ()
    rules: bool = False  # ``KernelWatch.foreign_rules`` has changed
