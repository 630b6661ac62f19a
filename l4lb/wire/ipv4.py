"""IPv4 (RFC 791): named offsets into the header, and the few operations a gateway does on it."""

from __future__ import annotations

from struct import Struct
from typing import Final

from l4lb.wire.checksum import checksum, update

HEADER: Final = Struct("!BxHHHBBH4s4s")
"""version+length, total length, identification, flags+fragment, TTL, protocol, checksum, addresses."""

MINIMUM: Final = 20
TOTAL_LENGTH: Final = 2
IDENTIFICATION: Final = 4
FRAGMENT: Final = 6
TTL: Final = 8
CHECKSUM: Final = 10
SOURCE: Final = 12
DESTINATION: Final = 16

DONT_FRAGMENT: Final = 0x4000
MORE_FRAGMENTS: Final = 0x2000
OFFSET_MASK: Final = 0x1FFF
"""In units of 8 bytes."""

END_OF_OPTIONS: Final = 0
NO_OPERATION: Final = 1
COPIED: Final = 0x80
"""Flag in an option's type: it belongs into every fragment."""

_U16 = Struct("!H")
TTL_DECREMENT: Final = 0xFEFF
"""What lowering the TTL by one adds to the header's sum: the complement of 0x0100."""


def rewrite(frame: bytearray, at: int, change: int) -> None:
    """Lower the TTL of the header at ``at`` by one and repair its checksum for ``change``: what its
    addresses and, ``TTL_DECREMENT``, the TTL add to the sum."""
    frame[at + TTL] -= 1
    (field,) = _U16.unpack_from(frame, at + CHECKSUM)
    _U16.pack_into(frame, at + CHECKSUM, update(field, change))


def can_be_source(address: bytes) -> bool:
    """False for the addresses that no packet on a link may come from: this network, loopback,
    multicast, limited broadcast (RFC 1122 3.2.1.3)."""
    first = address[0]
    return not (first in (0, 127) or 224 <= first < 240 or address == b"\xff\xff\xff\xff")


def build(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    identification: int = 0,
) -> bytes:
    """A packet without options, Don't Fragment set."""
    header = bytearray(MINIMUM)
    total = MINIMUM + len(payload)
    HEADER.pack_into(
        header, 0, 0x45, total, identification, DONT_FRAGMENT, ttl, protocol, 0, source, destination
    )
    _U16.pack_into(header, CHECKSUM, checksum(header))
    return bytes(header) + payload
