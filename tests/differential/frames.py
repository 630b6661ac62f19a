"""Frames as bytes, made fast: a differential run makes millions of them.

The packet-case table has scapy for this (tests/conformance/packets.py). Here a frame is put together by
``struct`` and read back by offsets; nothing comes from l4lb, which is what is under test.
"""

from __future__ import annotations

import functools
import struct
from ipaddress import ip_address
from typing import Final, NamedTuple

from tests.conformance.world import GATEWAY_MAC, Host, Side, packed_mac, route, side_of

VNET: Final = bytes(10)
ETHERNET: Final = 14
IP: Final = len(VNET) + ETHERNET

ICMP, TCP, UDP, ICMPV6, FRAGMENT, DESTINATION_OPTIONS = 1, 6, 17, 58, 44, 60
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32

_STRANGER: Final = bytes.fromhex("020000000199")


class End(NamedTuple):
    """A packed address and a port."""

    ip: bytes
    port: int

    @staticmethod
    @functools.cache
    def of(host: Host) -> End:
        """From the words of world.py."""
        return End(ip_address(host.ip).packed, host.port)


class Seen(NamedTuple):
    """A TCP or UDP packet read back."""

    source: End
    destination: End
    protocol: int
    flags: int
    sequence: int
    acknowledgement: int


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): one's complement is arithmetic modulo 65,535."""
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big")
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


def tcp(
    source: End,
    destination: End,
    flags: int,
    sequence: int,
    acknowledgement: int,
    data: bytes = b"",
    options: bytes = b"",
) -> bytes:
    """A TCP segment with its checksum. The length of ``options`` is a multiple of 4."""
    head = struct.pack(
        "!HHIIBBHHH",
        source.port,
        destination.port,
        sequence & 0xFFFF_FFFF,
        acknowledgement & 0xFFFF_FFFF,
        (20 + len(options)) // 4 << 4,
        flags,
        0x1234,
        0,
        0,
    )
    segment = head + options + data
    field = checksum(_pseudo(source.ip, destination.ip, TCP, len(segment)) + segment)
    return segment[:16] + field.to_bytes(2, "big") + segment[18:]


def udp(source: End, destination: End, data: bytes = b"", *, summed: bool = True) -> bytes:
    """A UDP datagram, with its checksum or without."""
    head = struct.pack("!HHHH", source.port, destination.port, 8 + len(data), 0)
    if not summed:
        return head + data
    field = checksum(_pseudo(source.ip, destination.ip, UDP, 8 + len(data)) + head + data) or 0xFFFF
    return head[:6] + field.to_bytes(2, "big") + data


def icmp(source: bytes, destination: bytes, kind: int, code: int, value: int, quoted: bytes) -> bytes:
    """An ICMP message of the version of the addresses."""
    message = struct.pack("!BBHI", kind, code, 0, value) + quoted
    pseudo = _pseudo(source, destination, ICMPV6, len(message)) if len(source) == 16 else b""
    return message[:2] + checksum(pseudo + message).to_bytes(2, "big") + message[4:]


def _pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + destination + struct.pack("!HH", protocol, length)
    return source + destination + struct.pack("!IHH", length, 0, protocol)


def packet(
    source: bytes,
    destination: bytes,
    protocol: int,
    body: bytes,
    *,
    ttl: int = 64,
    df: bool = True,
    identification: int = 0x4C34,
    more: bool = False,
    offset: int = 0,
    options: bytes = b"",
    extensions: bytes = b"",
) -> bytes:
    """An IP packet around ``body``; a fragment if there is ``more`` or an ``offset`` (bytes).

    ``options`` are IPv4's, a multiple of 4 bytes; ``extensions`` IPv6's, a chain whose first header
    is destination options and whose last next-header field is filled in here.
    """
    fragment = more or offset
    if len(source) == 4:
        flags = (0x4000 if df and not fragment else 0) | (0x2000 if more else 0) | offset // 8
        length = 20 + len(options)
        head = struct.pack(
            "!BBHHHBBH",
            0x40 | length // 4,
            0x2A,
            length + len(body),
            identification,
            flags,
            ttl,
            protocol,
            0,
        )
        field = checksum(head + source + destination + options)
        return head[:10] + field.to_bytes(2, "big") + source + destination + options + body
    chain, first = b"", protocol
    if fragment:
        chain = struct.pack("!BBHI", protocol, 0, offset | more, identification)
        first = FRAGMENT
    if extensions:
        chain = bytes([first]) + extensions[1:] + chain
        first = DESTINATION_OPTIONS
    head = struct.pack("!IHBB", 0x62A6_C346, len(chain) + len(body), first, ttl)
    return head + source + destination + chain + body


def ends(whole: bytes, at: int = IP) -> Seen | None:
    """What a frame holds, or with another ``at`` an IP packet; None if it is no TCP or UDP, or only the
    middle of one."""
    if len(whole) < at + 28:
        return None
    if whole[at] >> 4 == 4:
        protocol, source, destination = whole[at + 9], whole[at + 12 : at + 16], whole[at + 16 : at + 20]
        later = whole[at + 6] & 0x1F or whole[at + 7]
        at += (whole[at] & 15) * 4
    else:
        protocol, source, destination = whole[at + 6], whole[at + 8 : at + 24], whole[at + 24 : at + 40]
        later = 0
        at += 40
        while protocol in (FRAGMENT, DESTINATION_OPTIONS) and len(whole) > at + 8:
            size = 8
            if protocol == FRAGMENT:
                later |= whole[at + 2] or whole[at + 3] & 0xF8
            else:
                size += 8 * whole[at + 1]
            protocol = whole[at]
            at += size
    if later or protocol not in (TCP, UDP) or len(whole) < at + (20 if protocol == TCP else 8):
        return None
    sport, dport = struct.unpack_from("!HH", whole, at)
    sequence = acknowledgement = flags = 0
    if protocol == TCP:
        sequence, acknowledgement = struct.unpack_from("!II", whole, at + 4)
        flags = whole[at + 13]
    return Seen(End(source, sport), End(destination, dport), protocol, flags, sequence, acknowledgement)


@functools.cache
def _came_from(address: bytes) -> tuple[Side, bytes]:
    """The side that an address is on, and the MAC of who sends for it there."""
    text = str(ip_address(address))
    side, hop = side_of(text), route(text)
    if hop is None or (side is not None and hop.side is not side):
        return side or Side.CLIENTS, _STRANGER
    return hop.side, packed_mac(hop.mac)


@functools.cache
def _ethernet(address: bytes) -> tuple[Side, bytes]:
    side, mac = _came_from(address)
    gateway = packed_mac(GATEWAY_MAC[side])
    return side, VNET + gateway + mac + (b"\x08\x00" if len(address) == 4 else b"\x86\xdd")


def framed(source: bytes, whole: bytes) -> tuple[Side, bytes]:
    """The frame around an IP packet of ``source``, and the side that it comes in by."""
    side, header = _ethernet(source)
    return side, header + whole
