"""Reads decoded rtnetlink messages into the values of ``state``.

Written for the messages that pyroute2 decodes, but without importing it. What this host's routing
does not depend on (other address families, other tables, cloned routes) reads as None.
Message layouts: rtnetlink(7), include/uapi/linux/rtnetlink.h, neighbour.h, fib_rules.h.
"""

from __future__ import annotations

import socket
from enum import IntFlag
from typing import Any, Final, NamedTuple, Protocol

from l4lb.netlink.state import Address, Link, Neighbour, Route, RouteKind

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_NEWNEXTHOP: Final = 104
RTM_DELNEXTHOP: Final = 105

NLM_F_REPLACE: Final = 0x100

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_ARPHRD_ETHER: Final = 1
_ARPHRD_LOOPBACK: Final = 772
_IFF_UP: Final = 0x1
_IFF_LOWER_UP: Final = 0x10000  # carrier
_IFA_F_OPTIMISTIC: Final = 0x04
_IFA_F_TENTATIVE: Final = 0x40
_RTM_F_CLONED: Final = 0x200
_NTF_PROXY: Final = 0x8
_FR_ACT_TO_TBL: Final = 1
_RT_TABLE_DEFAULT: Final = 253
_RT_TABLE_MAIN: Final = 254
_RT_TABLE_LOCAL: Final = 255

_KINDS: Final = {
    1: RouteKind.UNICAST,
    2: RouteKind.LOCAL,
    3: RouteKind.LOCAL,  # broadcast
    4: RouteKind.LOCAL,  # anycast
    5: RouteKind.UNREACHABLE,  # multicast: never forwarded by l4lb
    6: RouteKind.UNREACHABLE,  # blackhole
    7: RouteKind.UNREACHABLE,
    8: RouteKind.UNREACHABLE,  # prohibit
    9: RouteKind.UNREACHABLE,  # throw: on to the table default, which is empty
}

_HARMLESS: Final = {"FRA_TABLE", "FRA_PRIORITY", "FRA_PROTOCOL", "FRA_SUPPRESS_PREFIXLEN"}
"""Attributes of a rule that do not restrict which packets it matches. All others do or may."""


class Message(Protocol):
    """A decoded netlink message: fields by name, attributes by their kernel name."""

    def __getitem__(self, field: str) -> Any:
        """A field of the header (``header``) or of the family's fixed part."""

    def get_attr(self, name: str) -> Any:
        """An attribute, or None."""


class Nud(IntFlag):
    """States of a neighbour entry (NUD_*)."""

    NONE = 0x00
    INCOMPLETE = 0x01
    REACHABLE = 0x02
    STALE = 0x04
    DELAY = 0x08
    PROBE = 0x10
    FAILED = 0x20
    NOARP = 0x40
    PERMANENT = 0x80


USABLE: Final = Nud.REACHABLE | Nud.STALE | Nud.DELAY | Nud.PROBE | Nud.NOARP | Nud.PERMANENT
"""States whose link-layer address packets may be sent to (NUD_VALID, include/net/neighbour.h)."""


class LinkEntry(NamedTuple):
    """A link, and whether it is administratively up, with or without carrier."""

    link: Link
    enabled: bool


class AddressEntry(NamedTuple):
    """An address, and its peer on a point-to-point link: the same address may have several."""

    address: Address
    peer: bytes


class RouteKey(NamedTuple):
    """What the kernel tells routes apart by, except for those appended with equal keys."""

    table: int
    prefix: bytes
    length: int
    metric: int


class RouteEntry(NamedTuple):
    """A route: its key and its next hops, more than one if it is multipath."""

    key: RouteKey
    hops: tuple[Route, ...]


class NeighbourEntry(NamedTuple):
    """A neighbour entry and its state; the neighbour has a ``mac`` only in a usable state."""

    neighbour: Neighbour
    state: Nud


class Rule(NamedTuple):
    """A policy routing rule, as far as it matters whether it is one the kernel begins with."""

    family: int
    priority: int
    table: int
    unconditional: bool  # matches every packet and does nothing but look the table up


DEFAULT_RULES: Final = {
    socket.AF_INET: {
        Rule(socket.AF_INET, 0, _RT_TABLE_LOCAL, True),
        Rule(socket.AF_INET, 32766, _RT_TABLE_MAIN, True),
        Rule(socket.AF_INET, 32767, _RT_TABLE_DEFAULT, True),
    },
    socket.AF_INET6: {
        Rule(socket.AF_INET6, 0, _RT_TABLE_LOCAL, True),
        Rule(socket.AF_INET6, 32766, _RT_TABLE_MAIN, True),
    },
}
"""The rules of a new network namespace (net/ipv4/fib_rules.c, net/ipv6/fib6_rules.c)."""


def read_link(message: Message) -> LinkEntry | None:
    """An RTM_*LINK message. None for a bridge port's and for a wireless event, which are partial."""
    mtu = message.get_attr("IFLA_MTU")
    if message["family"] != socket.AF_UNSPEC or mtu is None:
        return None
    mac = None
    if message["ifi_type"] in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK):  # others have other lengths
        mac = _mac(message.get_attr("IFLA_ADDRESS"))
    flags = message["flags"]
    enabled = bool(flags & _IFF_UP)
    up = enabled and bool(flags & _IFF_LOWER_UP)
    name = message.get_attr("IFLA_IFNAME")
    link = Link(message["index"], name, mac or b"", mtu, up, _is_paired(message))
    return LinkEntry(link, enabled)


def _is_paired(message: Message) -> bool:
    """IFLA_LINK_NETNSID is there if the other end is in another namespace (rtnl_fill_link_netnsid)."""
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    return kind in ("veth", "netkit") and message.get_attr("IFLA_LINK_NETNSID") is not None


def read_address(message: Message) -> AddressEntry | None:
    """An RTM_*ADDR message. On a point-to-point link IFA_ADDRESS is the peer's (if_addr.h)."""
    peer = _packed(message.get_attr("IFA_ADDRESS"))
    local = _packed(message.get_attr("IFA_LOCAL")) or peer
    if message["family"] not in _INTERNET or local is None:
        return None
    return AddressEntry(Address(message["index"], local, message["prefixlen"]), peer or local)


def is_tentative(message: Message) -> bool:
    """True if an RTM_*ADDR message's address is not in use: duplicate address detection is not
    through with it (RFC 4862 section 5.4), or has found a duplicate.

    Dumps contain such addresses; events come for some of them only.
    """
    return bool(message["flags"] & _IFA_F_TENTATIVE) and not message["flags"] & _IFA_F_OPTIMISTIC


def read_route(message: Message) -> RouteEntry | None:
    """An RTM_*ROUTE message."""
    family = message["family"]
    table = message.get_attr("RTA_TABLE") or message["table"]
    kind = _KINDS.get(message["type"])
    if (
        family not in _INTERNET
        or table not in (_RT_TABLE_MAIN, _RT_TABLE_LOCAL)
        or kind is None
        or message["flags"] & _RTM_F_CLONED
        or message["tos"]
        or message["src_len"]
    ):
        return None
    length = message["dst_len"]
    prefix = _packed(message.get_attr("RTA_DST")) or bytes(4 if family == socket.AF_INET else 16)
    key = RouteKey(table, prefix, length, message.get_attr("RTA_PRIORITY") or 0)
    source = _packed(message.get_attr("RTA_PREFSRC"))
    metrics = message.get_attr("RTA_METRICS")
    mtu = (metrics.get_attr("RTAX_MTU") if metrics is not None else None) or 0
    multipath = message.get_attr("RTA_MULTIPATH")
    if multipath is None:
        hops = [(message, message.get_attr("RTA_OIF") or 0)]
    else:
        hops = [(hop, hop["oif"]) for hop in multipath]
    return RouteEntry(
        key,
        tuple(
            Route(
                prefix,
                length,
                index,
                _gateway(hop),
                source,
                key.metric,
                mtu,
                # A frame cannot be sent through MPLS, SRv6 or another lightweight tunnel.
                RouteKind.UNREACHABLE if hop.get_attr("RTA_ENCAP_TYPE") else kind,
            )
            for hop, index in hops
        ),
    )


def read_neighbour(message: Message) -> NeighbourEntry | None:
    """An RTM_*NEIGH message. None for multicast, whose link-layer addresses need no asking."""
    ip = _packed(message.get_attr("NDA_DST"))
    if message["family"] not in _INTERNET or ip is None or message["flags"] & _NTF_PROXY:
        return None
    if ip[0] == 0xFF if len(ip) == 16 else ip[0] >> 4 == 0xE:
        return None
    state = Nud(message["state"])
    mac = _mac(message.get_attr("NDA_LLADDR")) if state & USABLE else None
    return NeighbourEntry(Neighbour(message["ifindex"], ip, mac), state)


def read_rule(message: Message) -> Rule | None:
    """An RTM_*RULE message."""
    if message["family"] not in _INTERNET:
        return None
    # The kernel sends FRA_SUPPRESS_PREFIXLEN with every rule, as -1 where it has no effect.
    unconditional = (
        message["action"] == _FR_ACT_TO_TBL
        and not (message["src_len"] or message["dst_len"] or message["tos"] or message["flags"])
        and {attribute[0] for attribute in message["attrs"]} <= _HARMLESS
        and message.get_attr("FRA_SUPPRESS_PREFIXLEN") in (None, 0xFFFFFFFF)
    )
    table = message.get_attr("FRA_TABLE") or message["table"]
    return Rule(message["family"], message.get_attr("FRA_PRIORITY") or 0, table, unconditional)


def _gateway(hop: Message) -> bytes | None:
    gateway = hop.get_attr("RTA_GATEWAY")
    if gateway is None:
        via = hop.get_attr("RTA_VIA")
        gateway = via["addr"] if via is not None else None
    return _packed(gateway)


def _packed(text: str | None) -> bytes | None:
    if text is None:
        return None
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _mac(text: str | None) -> bytes | None:
    """The six bytes of ``02:00:00:00:00:01``; None for addresses of other link layers."""
    octets = (text or "").split(":")
    if len(octets) != 6 or any(len(octet) != 2 for octet in octets):
        return None
    return bytes.fromhex("".join(octets))
