"""IPv6 (RFC 8200): named offsets, extension headers, and building a packet."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

HEADER: Final = Struct("!IHBB16s16s")
"""version+class+flow, payload length, next header, hop limit, addresses."""

SIZE: Final = 40
HOP_LIMIT: Final = 7
SOURCE: Final = 8
DESTINATION: Final = 24

HOP_BY_HOP: Final = 0
ROUTING: Final = 43
FRAGMENT: Final = 44
DESTINATION_OPTIONS: Final = 60

_LONGEST_CHAIN = 8
"""Extension headers looked through before a packet is called malformed. RFC 8504 5.3 lets a node
limit them; no honest packet carries more than four or five."""

_FRAGMENT_HEADER = Struct("!BxHI")


class Chain(NamedTuple):
    """Where the extension headers end."""

    protocol: int
    transport: int  # offset of what ``protocol`` names
    fragment: bool = False  # a fragment header was there
    offset: int = 0  # in bytes; 0 for the first fragment
    more: bool = False
    identification: int = 0


def walk(frame: bytearray, at: int, next_header: int, end: int) -> Chain | None:
    """Follow the extension headers from ``at``; None if they are malformed or reach beyond ``end``.

    The walk stops behind the fragment header of a fragment that is not the first: what follows is
    payload. ESP and AH are upper layers here: what is behind the first cannot be read, and what is
    behind the second must not be rewritten (RFC 4302 3.3.3).
    """
    fragment, offset, more, identification = False, 0, False, 0
    for _ in range(_LONGEST_CHAIN):
        if next_header in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
            if at + 8 > end:
                return None
            next_header, at = frame[at], at + 8 + 8 * frame[at + 1]
        elif next_header == FRAGMENT:
            if fragment or at + 8 > end:
                return None
            fragment = True
            next_header, field, identification = _FRAGMENT_HEADER.unpack_from(frame, at)
            offset, more = field & 0xFFF8, bool(field & 1)
            at += 8
            if offset:
                return Chain(next_header, at, True, offset, more, identification)
        else:
            return Chain(next_header, at, fragment, offset, more, identification) if at <= end else None
    return None


def can_be_source(address: bytes) -> bool:
    """False for the addresses that no packet to a host may come from: unspecified, loopback,
    multicast (RFC 4291 2.5.2, 2.5.3, 2.7)."""
    return address[0] != 0xFF and (address[:15] != bytes(15) or address[15] > 1)


def is_link_local(address: bytes) -> bool:
    """True for an address that means something on its own link only: no router forwards packets from or to
    it (RFC 4291 2.5.6)."""
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def build(
    source: bytes, destination: bytes, protocol: int, payload: bytes, *, hop_limit: int = 64
) -> bytes:
    """A packet without extension headers."""
    return HEADER.pack(0x6000_0000, len(payload), protocol, hop_limit, source, destination) + payload
