"""Packets for tests, built and read without l4lb's own code, so that both cannot be wrong alike.

Checksums are summed word by word, slowly and plainly. ``test_packets.py`` holds all of this against
scapy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from itertools import pairwise

from l4lb.model import Endpoint

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32

VNET = 10
ETHERNET = 14
IP = VNET + ETHERNET
MACS = bytes.fromhex("020000000001 020000000002")


def words_sum(data: bytes) -> int:
    """One's-complement sum of 16-bit words, end-around carry, as RFC 1071 spells it out."""
    if len(data) % 2:
        data += b"\0"
    total = 0
    for (word,) in struct.iter_unpack("!H", data):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    return words_sum(data) ^ 0xFFFF


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!IxxxB", length, protocol)


@dataclass(frozen=True)
class Sent:
    """A packet to send: every field that a test may want to set."""

    source: Endpoint
    destination: Endpoint
    protocol: int = TCP
    flags: int = SYN
    sequence: int = 1000
    acknowledgement: int = 0
    window: int = 64_000
    options: bytes = b""  # of TCP, a multiple of four
    payload: bytes = b""
    ttl: int = 64
    identification: int = 0
    dont_fragment: bool = True
    ip_options: bytes = b""  # IPv4, a multiple of four
    extensions: tuple[tuple[int, bytes], ...] = ()  # IPv6: (kind, header from its second byte on)
    checksum: str = "full"  # full | partial | wrong | none (UDP)
    gso_size: int = 0
    trailer: bytes = b""  # behind the packet, as Ethernet pads short frames

    @property
    def version(self) -> int:
        return self.source.version

    @property
    def key(self) -> bytes:
        """The tuple, as a connection table has it."""
        ports = struct.pack("!HH", self.source.port, self.destination.port)
        return self.source.ip + self.destination.ip + ports

    def back(self, **changes: object) -> Sent:
        """The same packet in the other direction."""
        return replace(self, source=self.destination, destination=self.source, **changes)  # type: ignore[arg-type]

    def transport(self) -> bytes:
        """Transport header and payload with the checksum as asked for."""
        ports = struct.pack("!HH", self.source.port, self.destination.port)
        if self.protocol == TCP:
            offset_flags = (20 + len(self.options)) // 4 << 12 | self.flags
            rest = struct.pack(
                "!IIHHHH", self.sequence, self.acknowledgement, offset_flags, self.window, 0, 0
            )
            at, header = 16, ports + rest + self.options
        else:
            at, header = 6, ports + struct.pack("!HH", 8 + len(self.payload), 0)
        data = header + self.payload
        pseudo = pseudo_header(self.source.ip, self.destination.ip, self.protocol, len(data))
        if self.checksum == "partial":
            field = words_sum(pseudo)
        elif self.checksum == "none":
            field = 0
        else:
            field = checksum(pseudo + data)
            if self.protocol == UDP:
                field = field or 0xFFFF
            if self.checksum == "wrong":
                field ^= 0x0101
        return data[:at] + field.to_bytes(2, "big") + data[at + 2 :]

    def packet(self) -> bytes:
        """From the IP header on."""
        return self.around(self.transport())

    def around(self, data: bytes, fragment: int | None = None) -> bytes:
        """The IP packet around ``data``. ``fragment`` are the 16 bits that say which piece it is: of
        IPv4 the flags too, of IPv6 those of the fragment header."""
        if self.version == 4:
            if fragment is None:
                fragment = 0x4000 if self.dont_fragment else 0
            length = 20 + len(self.ip_options)
            start = struct.pack(
                "!BBHHHBB",
                0x40 | length // 4,
                0,
                length + len(data),
                self.identification & 0xFFFF,
                fragment,
                self.ttl,
                self.protocol,
            )
            addresses = self.source.ip + self.destination.ip + self.ip_options
            return start + struct.pack("!H", checksum(start + addresses)) + addresses + data
        headers = list(self.extensions)
        if fragment is not None:
            headers.append((44, struct.pack("!xHI", fragment, self.identification)))
        kinds = [kind for kind, _ in headers] + [self.protocol]
        chain = b"".join(
            bytes([after]) + header for after, (_, header) in zip(kinds[1:], headers, strict=True)
        )
        start = struct.pack("!IHBB", 6 << 28, len(chain) + len(data), kinds[0], self.ttl)
        return start + self.source.ip + self.destination.ip + chain + data

    def frame(self) -> bytearray:
        """With virtio-net and Ethernet header in front and the trailer behind."""
        flags = 1 if self.checksum == "partial" else 0
        header = len(self.packet()) - len(self.payload)
        kind = 0
        if self.gso_size:
            kind = 5 if self.protocol == UDP else 1 if self.version == 4 else 4
        start = ETHERNET + header - (20 + len(self.options) if self.protocol == TCP else 8)
        vnet = struct.pack(
            "=BBHHHH",
            flags,
            kind,
            ETHERNET + header if kind else 0,
            self.gso_size,
            start if flags else 0,
            (16 if self.protocol == TCP else 6) if flags else 0,
        )
        return bytearray(vnet + ethernet(self.version) + self.packet() + self.trailer)

    def fragments(self, size: int, first: int | None = None) -> list[bytearray]:
        """Frames of the packet cut into pieces of ``size`` bytes, a multiple of eight; the first may
        have a size of its own."""
        data = self.transport()
        cuts = [0, *range(first or size, len(data), size), len(data)]
        frames = []
        for start, end in pairwise(cuts):
            more = end < len(data)
            field = start // 8 | more << 13 if self.version == 4 else start | more
            piece = self.around(data[start:end], field)
            frames.append(bytearray(bytes(VNET) + ethernet(self.version) + piece))
        return frames


def ethernet(version: int) -> bytes:
    return MACS + (b"\x08\x00" if version == 4 else b"\x86\xdd")


def framed(packet: bytes) -> bytearray:
    """A frame around any IP packet."""
    return bytearray(bytes(VNET) + ethernet(packet[0] >> 4) + packet)


def icmp_error(
    source: bytes,
    destination: bytes,
    quoted: bytes,
    *,
    kind: int = 3,
    code: int = 1,
    value: int = 0,
    ttl: int = 64,
) -> bytearray:
    """A frame with an ICMP or ICMPv6 error that quotes ``quoted``."""
    message = struct.pack("!BBHI", kind, code, 0, value) + quoted
    if len(source) == 4:
        protocol, field = ICMP, checksum(message)
    else:
        protocol = ICMPV6
        field = checksum(pseudo_header(source, destination, ICMPV6, len(message)) + message)
    message = message[:2] + field.to_bytes(2, "big") + message[4:]
    outer = Sent(Endpoint(source, 0), Endpoint(destination, 0), protocol=protocol, ttl=ttl)
    return framed(outer.around(message))


@dataclass(frozen=True)
class Seen:
    """What stands in a frame, as a receiver reads it."""

    source: Endpoint
    destination: Endpoint
    protocol: int
    ttl: int
    flags: int
    sequence: int
    acknowledgement: int
    payload: bytes
    header_right: bool  # IPv4's header checksum
    transport_right: bool  # TCP's, UDP's or ICMP's; also if there is none or it is partial and right
    packet: bytes

    @property
    def right(self) -> bool:
        return self.header_right and self.transport_right


def read(frame: bytes | bytearray, end: int | None = None) -> Seen:
    """Read an unfragmented packet; only what is behind the Ethernet header is looked at."""
    partial = frame[0] & 1
    packet = bytes(frame[IP : len(frame) if end is None else end])
    header_right = True
    if packet[0] >> 4 == 4:
        start = (packet[0] & 15) * 4
        packet = packet[: int.from_bytes(packet[2:4], "big")]
        ttl, protocol, source, destination = packet[8], packet[9], packet[12:16], packet[16:20]
        header_right = words_sum(packet[:start]) == 0xFFFF
    else:
        packet = packet[: 40 + int.from_bytes(packet[4:6], "big")]
        protocol, ttl, source, destination, start = packet[6], packet[7], packet[8:24], packet[24:40], 40
        while protocol in (0, 43, 44, 60):
            after = 8 if protocol == 44 else 8 + 8 * packet[start + 1]
            protocol, start = packet[start], start + after
    data = packet[start:]
    pseudo = pseudo_header(source, destination, protocol, len(data))
    sport = dport = flags = sequence = acknowledgement = 0
    payload = data[8:]
    field_at = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}[protocol]
    if protocol in (TCP, UDP):
        sport, dport = struct.unpack_from("!HH", data)
    if protocol == TCP:
        sequence, acknowledgement, offset_flags = struct.unpack_from("!IIH", data, 4)
        flags = offset_flags & 0x3F
        payload = data[(offset_flags >> 12) * 4 :]
    field = int.from_bytes(data[field_at : field_at + 2], "big")
    if partial:
        right = field in (words_sum(pseudo), 0xFFFF if not words_sum(pseudo) else -1)
    elif protocol == UDP and not field:
        right = len(source) == 4
    else:
        right = words_sum((b"" if protocol == ICMP else pseudo) + data) == 0xFFFF
    return Seen(
        Endpoint(source, sport),
        Endpoint(destination, dport),
        protocol,
        ttl,
        flags,
        sequence,
        acknowledgement,
        payload,
        header_right,
        right,
        packet,
    )
