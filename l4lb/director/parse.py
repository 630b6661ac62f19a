"""Step 1, parse: where the headers start and end. Lengths are checked here, once.

After ``parse`` every offset in a ``Packet`` without an ``error`` lies inside the packet, so the
steps behind it read and write without looking again. The IP length rules: what the frame carries
behind it is an Ethernet trailer and is cut off.
"""

from __future__ import annotations

from struct import Struct

from l4lb.model import DropReason
from l4lb.wire import icmp, ipv4, ipv6, tcp, udp
from l4lb.wire.frame import ETHERTYPE, ETHERTYPE_IPV4, ETHERTYPE_IPV6, GSO_TYPE, IP, VnetHeader

_U16 = Struct("!H")
_PORTS = Struct("!HH")


class Quoted:
    """The start of a packet that an ICMP error quotes: addresses, and ports from the 8 bytes of
    transport header that are always there (RFC 792), except of a later fragment, which has none (-1).
    Offsets count from the frame's start."""

    __slots__ = ("at", "destination", "dport", "end", "protocol", "source", "sport", "transport")

    def __init__(self, at: int, end: int) -> None:
        self.at = at
        self.end = end  # of what is quoted, which may be cut short
        self.transport = end
        self.protocol = -1
        self.source = b""
        self.destination = b""
        self.sport = -1
        self.dport = -1

    @property
    def reverse_key(self) -> bytes:
        """The tuple of packets that answer the quoted one: how the table knows the connection."""
        return self.destination + self.source + _PORTS.pack(self.dport, self.sport)


class Packet:
    """A parsed packet. ``key`` is its tuple: addresses and ports as they lie on the wire."""

    __slots__ = (
        "acknowledgement",
        "destination",
        "dport",
        "end",
        "error",
        "flags",
        "fragment_offset",
        "icmp_error",
        "identification",
        "is_fragment",
        "key",
        "more_fragments",
        "payload",
        "protocol",
        "quoted",
        "sequence",
        "source",
        "sport",
        "transport",
        "ttl",
        "version",
    )

    def __init__(self, version: int, source: bytes, destination: bytes) -> None:
        self.version = version
        self.source = source
        self.destination = destination
        self.protocol = -1  # the upper layer's, behind any extension headers
        self.ttl = 0
        self.transport = IP  # offset of the transport header
        self.end = IP  # offset of the packet's end
        self.error: DropReason | None = None
        self.sport = -1  # -1: the packet does not show it
        self.dport = -1
        self.key = b""  # empty where the ports are not known
        self.flags = 0  # TCP: SYN, FIN, RST, ACK, URG
        self.sequence = 0
        self.acknowledgement = 0
        self.payload = 0  # TCP: bytes behind the header
        self.is_fragment = False
        self.fragment_offset = 0
        self.more_fragments = False
        self.identification = 0
        self.icmp_error = False
        self.quoted: Quoted | None = None

    def __repr__(self) -> str:
        return (
            f"<Packet IPv{self.version} protocol {self.protocol} {self.source.hex()}:{self.sport} -> "
            f"{self.destination.hex()}:{self.dport} flags {self.flags:#x} error {self.error}>"
        )


def parse(frame: bytearray, end: int) -> Packet | None:
    """The packet in ``frame``, whose bytes end at offset ``end``.

    None if it is not IP, or too short or odd to tell whose it is: the kernel's. A packet that is
    damaged further in comes back with ``error`` set, and as much of the rest as could be read.
    """
    if end < IP + ipv4.MINIMUM:
        return None
    (ethertype,) = _U16.unpack_from(frame, ETHERTYPE)
    if ethertype == ETHERTYPE_IPV4:
        packet = _parse_ipv4(frame, end)
    elif ethertype == ETHERTYPE_IPV6 and end >= IP + ipv6.SIZE:
        packet = _parse_ipv6(frame, end)
    else:
        return None
    if packet is None:
        return None
    if packet.error is None and not packet.fragment_offset:
        _parse_transport(frame, packet)
    ip = ipv4 if packet.version == 4 else ipv6
    if packet.source == packet.destination or not ip.can_be_source(packet.source):
        packet.error = packet.error or DropReason.BAD_IP_HEADER  # forged: RFC 1812 5.3.7
    return packet


def _parse_ipv4(frame: bytearray, end: int) -> Packet | None:
    first, total, identification, fragment, ttl, protocol, _, source, destination = ipv4.HEADER.unpack_from(
        frame, IP
    )
    if first >> 4 != 4:
        return None
    packet = Packet(4, source, destination)
    header = (first & 15) * 4
    if header < ipv4.MINIMUM or total < header:
        packet.error = DropReason.BAD_IP_HEADER
    elif IP + total > end:
        packet.error = DropReason.TRUNCATED
    packet.ttl = ttl
    packet.protocol = protocol
    packet.transport = IP + header
    packet.end = IP + total
    if fragment & (ipv4.MORE_FRAGMENTS | ipv4.OFFSET_MASK):
        packet.is_fragment = True
        packet.fragment_offset = (fragment & ipv4.OFFSET_MASK) * 8
        packet.more_fragments = bool(fragment & ipv4.MORE_FRAGMENTS)
        packet.identification = identification
        if packet.fragment_offset + total - header > 0xFFFF:  # the "ping of death"
            packet.error = packet.error or DropReason.BAD_IP_HEADER
    return packet


def _parse_ipv6(frame: bytearray, end: int) -> Packet | None:
    first, length, next_header, hop_limit, source, destination = ipv6.HEADER.unpack_from(frame, IP)
    if first >> 28 != 6:
        return None
    packet = Packet(6, source, destination)
    packet.ttl = hop_limit
    packet.end = IP + ipv6.SIZE + length
    if packet.end > end:
        packet.error = DropReason.TRUNCATED
        return packet
    chain = ipv6.walk(frame, IP + ipv6.SIZE, next_header, packet.end)
    if chain is None:
        packet.error = DropReason.BAD_EXTENSION_HEADERS
        return packet
    packet.protocol = chain.protocol
    packet.transport = chain.transport
    packet.is_fragment = chain.fragment
    packet.fragment_offset = chain.offset
    packet.more_fragments = chain.more
    packet.identification = chain.identification
    if chain.fragment and chain.offset + packet.end - chain.transport > 0xFFFF:
        packet.error = DropReason.BAD_EXTENSION_HEADERS
    return packet


def _parse_transport(frame: bytearray, packet: Packet) -> None:
    at, end = packet.transport, packet.end
    if packet.protocol == tcp.PROTOCOL:
        if at + tcp.MINIMUM > end:
            packet.error = DropReason.BAD_TCP_HEADER
            return
        sport, dport, sequence, acknowledgement, offset_flags, _, _ = tcp.HEADER.unpack_from(frame, at)
        header = (offset_flags >> 12) * 4
        if header < tcp.MINIMUM or at + header > end:
            packet.error = DropReason.BAD_TCP_HEADER
        packet.flags = offset_flags & tcp.FLAGS_THAT_MATTER
        packet.sequence = sequence
        packet.acknowledgement = acknowledgement
        packet.payload = end - at - header
    elif packet.protocol == udp.PROTOCOL:
        if at + udp.SIZE > end:
            packet.error = DropReason.BAD_UDP_HEADER
            return
        sport, dport, length, _ = udp.HEADER.unpack_from(frame, at)
        # A fragment's UDP length is the whole datagram's; a GSO frame's is the whole frame's.
        if length < udp.SIZE or (length > end - at and not packet.is_fragment):
            packet.error = DropReason.BAD_UDP_HEADER
    else:
        if packet.protocol in (icmp.PROTOCOL, icmp.PROTOCOL_V6):
            _parse_icmp(frame, packet)
        return
    packet.sport = sport
    packet.dport = dport
    packet.key = packet.source + packet.destination + bytes(frame[at : at + 4])


def _parse_icmp(frame: bytearray, packet: Packet) -> None:
    """Errors only: any other ICMP is the kernel's business."""
    at = packet.transport
    version = 4 if packet.protocol == icmp.PROTOCOL else 6
    if version != packet.version or at + icmp.SIZE > packet.end:
        return
    if frame[at] not in (icmp.ERRORS if version == 4 else icmp.ERRORS_V6):
        return
    packet.icmp_error = True
    packet.quoted = _parse_quoted(frame, Quoted(at + icmp.SIZE, packet.end), version)
    if packet.quoted is None or packet.is_fragment:
        packet.error = DropReason.BAD_ICMP_HEADER


def _parse_quoted(frame: bytearray, quoted: Quoted, version: int) -> Quoted | None:
    at, end = quoted.at, quoted.end
    if version == 4:
        if at + ipv4.MINIMUM > end:
            return None
        first, total, _, fragment, _, protocol, _, source, destination = ipv4.HEADER.unpack_from(frame, at)
        header = (first & 15) * 4
        if first >> 4 != 4 or header < ipv4.MINIMUM or total < header:
            return None
        quoted.transport = at + header
        quoted.end = min(end, at + total)
        later_fragment = fragment & ipv4.OFFSET_MASK
    else:
        if at + ipv6.SIZE > end:
            return None
        first, length, next_header, _, source, destination = ipv6.HEADER.unpack_from(frame, at)
        quoted.end = min(end, at + ipv6.SIZE + length)
        chain = ipv6.walk(frame, at + ipv6.SIZE, next_header, quoted.end)
        if first >> 28 != 6 or chain is None:
            return None
        protocol, quoted.transport, later_fragment = chain.protocol, chain.transport, chain.offset
    quoted.protocol = protocol
    quoted.source = source
    quoted.destination = destination
    if protocol in (tcp.PROTOCOL, udp.PROTOCOL):
        if later_fragment:
            return quoted
        if quoted.transport + 8 > quoted.end:
            return None
        quoted.sport, quoted.dport = _PORTS.unpack_from(frame, quoted.transport)
    return quoted


def segment_length(frame: bytearray, packet: Packet) -> int:
    """IP bytes of the largest packet this frame puts on the wire: its own length, or for a GSO
    frame the headers and one segment."""
    length = packet.end - IP
    if not frame[GSO_TYPE]:
        return length
    vnet = VnetHeader.read(frame)
    if not vnet.gso_size:
        return length
    header = packet.transport - IP
    header += (frame[packet.transport + 12] >> 4) * 4 if packet.protocol == tcp.PROTOCOL else udp.SIZE
    return min(length, header + vnet.gso_size)
