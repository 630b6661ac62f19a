"""TCP (RFC 9293): named offsets, flags, and the one segment a gateway makes itself."""

from __future__ import annotations

from struct import Struct
from typing import Final

from l4lb.wire.checksum import checksum, pseudo_header

PROTOCOL: Final = 6
HEADER: Final = Struct("!HHIIHHH")
"""ports, sequence, acknowledgement, data offset+flags, window, checksum."""

MINIMUM: Final = 20
CHECKSUM: Final = 16

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20

VALID_FLAGS: Final = frozenset(
    {
        SYN,
        SYN | URG,
        SYN | ACK,
        RST,
        RST | ACK,
        FIN | ACK,
        FIN | ACK | URG,
        ACK,
        ACK | URG,
    }
)
"""The combinations of SYN, FIN, RST, ACK and URG that a TCP sends (as ``tcp_valid_flags`` in
nf_conntrack_proto_tcp.c); anything else is a scan or damage."""

FLAGS_THAT_MATTER: Final = SYN | FIN | RST | ACK | URG

_U16 = Struct("!H")
_END_OF_OPTIONS, _NO_OPERATION, _WINDOW_SCALE = 0, 1, 3


def window_scale(frame: bytearray, at: int, end: int) -> int | None:
    """The shift of the window scale option (RFC 7323 2.2) in the options from ``at`` to ``end``:
    at most 14, None without the option."""
    while at < end:
        kind = frame[at]
        if kind == _END_OF_OPTIONS:
            return None
        if kind == _NO_OPERATION:
            at += 1
            continue
        if at + 1 >= end:
            return None
        length = frame[at + 1]
        if length < 2 or at + length > end:
            return None
        if kind == _WINDOW_SCALE and length == 3:
            return min(frame[at + 2], 14)
        at += length
    return None


def build(
    source: bytes,
    destination: bytes,
    sport: int,
    dport: int,
    flags: int,
    *,
    sequence: int,
    acknowledgement: int = 0,
) -> bytes:
    """A segment without payload, options or window: good for RST."""
    segment = bytearray(MINIMUM)
    HEADER.pack_into(segment, 0, sport, dport, sequence, acknowledgement, 0x5000 | flags, 0, 0)
    total = checksum(segment, pseudo_header(source, destination, PROTOCOL, MINIMUM))
    _U16.pack_into(segment, CHECKSUM, total)
    return bytes(segment)
