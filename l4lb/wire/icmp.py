"""ICMP (RFC 792) and ICMPv6 (RFC 4443): the errors, which quote the packet they are about."""

from __future__ import annotations

from struct import Struct
from typing import Final

from l4lb.wire import ipv4, ipv6
from l4lb.wire.checksum import checksum, pseudo_header

PROTOCOL: Final = 1
PROTOCOL_V6: Final = 58

HEADER: Final = Struct("!BBHI")
"""type, code, checksum, and four bytes that depend on the type (the MTU, for instance)."""

SIZE: Final = 8
CHECKSUM: Final = 2

UNREACHABLE: Final = 3
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12
ERRORS: Final = frozenset({UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM})
"""Source quench is deprecated (RFC 6633); redirects are the link's business and are not translated."""

PORT_UNREACHABLE: Final = 3
FRAGMENTATION_NEEDED: Final = 4

UNREACHABLE_V6: Final = 1
PACKET_TOO_BIG_V6: Final = 2
TIME_EXCEEDED_V6: Final = 3
PARAMETER_PROBLEM_V6: Final = 4
PORT_UNREACHABLE_V6: Final = 4
ERRORS_V6: Final = frozenset({UNREACHABLE_V6, PACKET_TOO_BIG_V6, TIME_EXCEEDED_V6, PARAMETER_PROBLEM_V6})

_LONGEST_ERROR = 576
"""Of an ICMP error, IP header included (RFC 1812 4.3.2.3); IPv6's limit is 1280 (RFC 4443 2.4 c)."""
_LONGEST_ERROR_V6 = 1280


def build_error(
    source: bytes, destination: bytes, kind: int, code: int, value: int, quoted: bytes
) -> bytes:
    """An IPv4 or IPv6 packet that carries an ICMP error about ``quoted``, cut to the length the
    RFCs allow. ``value`` is the four bytes after the checksum, the MTU where there is one."""
    if len(source) == 4:
        quoted = quoted[: _LONGEST_ERROR - ipv4.MINIMUM - SIZE]
        field = checksum(HEADER.pack(kind, code, 0, value) + quoted)
        message = HEADER.pack(kind, code, field, value) + quoted
        return ipv4.build(source, destination, PROTOCOL, message)
    quoted = quoted[: _LONGEST_ERROR_V6 - ipv6.SIZE - SIZE]
    pseudo = pseudo_header(source, destination, PROTOCOL_V6, SIZE + len(quoted))
    field = checksum(HEADER.pack(kind, code, 0, value) + quoted, pseudo)
    message = HEADER.pack(kind, code, field, value) + quoted
    return ipv6.build(source, destination, PROTOCOL_V6, message)
