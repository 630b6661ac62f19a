"""Packets the gateway makes itself: RST and ICMP errors, as frames without Ethernet addresses."""

from __future__ import annotations

from l4lb.director.connection import Connection, Ends
from l4lb.director.parse import Packet
from l4lb.model import Endpoint
from l4lb.wire import icmp, ipv4, ipv6, tcp
from l4lb.wire.frame import ETHERTYPE_IPV4, ETHERTYPE_IPV6, IP, new_frame


class RateLimit:
    """A token bucket for what the gateway says unasked (RFC 1812 4.3.2.8): forged packets must not
    make it an amplifier. Defaults allow short bursts when a backend with many clients goes down."""

    __slots__ = ("_burst", "_last", "_rate", "_tokens")

    def __init__(self, now: float, rate: float = 10_000.0, burst: float = 20_000.0) -> None:
        self._rate = rate  # answers per second
        self._burst = burst
        self._tokens = burst
        self._last = now

    def allows(self, now: float) -> bool:
        """Take a token if there is one."""
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def reset(packet: Packet) -> bytearray | None:
    """The RST that answers a TCP segment nobody expects (RFC 9293 3.10.7.1), None for an RST."""
    if packet.flags & tcp.RST:
        return None
    if packet.flags & tcp.ACK:
        flags, sequence, acknowledgement = tcp.RST, packet.acknowledgement, 0
    else:
        length = packet.payload + bool(packet.flags & tcp.SYN) + bool(packet.flags & tcp.FIN)
        flags, sequence = tcp.RST | tcp.ACK, 0
        acknowledgement = (packet.sequence + length) & 0xFFFF_FFFF
    here, there = Endpoint(packet.destination, packet.dport), Endpoint(packet.source, packet.sport)
    return _segment(here, there, flags, sequence, acknowledgement)


def resets(connection: Connection) -> list[tuple[bool, bytearray]]:
    """The RSTs that end a connection from the middle: (to the client?, frame), for each end whose
    next expected sequence number was seen. In a connection at rest that is exactly the number an
    endpoint accepts (RFC 5961 3.2)."""
    ends = Ends(connection.original, connection.reply)
    frames = []
    if connection.acked_by_client is not None:
        frames.append((True, _segment(ends.vip, ends.client, tcp.RST, connection.acked_by_client, 0)))
    if connection.acked_by_backend is not None:
        frames.append((False, _segment(ends.source, ends.backend, tcp.RST, connection.acked_by_backend, 0)))
    return frames


def farewells(client: Endpoint, vip: Endpoint, packet: Packet) -> list[bytearray]:
    """What makes a client end its connection to ``vip``, of which nothing is known but this segment
    of a backend's.

    An RST ends it if the segment is the next that the client expects, and makes it say what it
    expects (RFC 5961 3.2) if one before is missing. If it has the segment already, as its ACK was
    lost, it ignores the RST, but answers an ACK from below its window (RFC 9293 3.10.7.4). What it
    says is then refused with the right number.
    """
    below = (packet.sequence - 1) & 0xFFFF_FFFF
    return [
        _segment(vip, client, tcp.RST, packet.sequence, 0),
        _segment(vip, client, tcp.ACK, below, packet.acknowledgement),
    ]


def _segment(here: Endpoint, there: Endpoint, flags: int, sequence: int, acknowledgement: int) -> bytearray:
    segment = tcp.build(
        here.ip, there.ip, here.port, there.port, flags, sequence=sequence, acknowledgement=acknowledgement
    )
    if here.version == 4:
        return new_frame(ETHERTYPE_IPV4, ipv4.build(here.ip, there.ip, tcp.PROTOCOL, segment))
    return new_frame(ETHERTYPE_IPV6, ipv6.build(here.ip, there.ip, tcp.PROTOCOL, segment))


def time_exceeded(frame: bytearray, packet: Packet, source: bytes) -> bytearray | None:
    """ICMP time exceeded in transit, from ``source``, an address of the gateway."""
    kind = icmp.TIME_EXCEEDED if packet.version == 4 else icmp.TIME_EXCEEDED_V6
    return _error(frame, packet, source, kind, 0, 0)


def too_big(frame: bytearray, packet: Packet, source: bytes, mtu: int) -> bytearray | None:
    """Fragmentation needed (RFC 1191) or packet too big (RFC 8201), with the next hop's MTU."""
    if packet.version == 4:
        return _error(frame, packet, source, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED, mtu)
    return _error(frame, packet, source, icmp.PACKET_TOO_BIG_V6, 0, mtu)


def port_unreachable(frame: bytearray, packet: Packet) -> bytearray | None:
    """ICMP port unreachable, from the address the packet was for."""
    if packet.version == 4:
        return _error(frame, packet, packet.destination, icmp.UNREACHABLE, icmp.PORT_UNREACHABLE, 0)
    return _error(frame, packet, packet.destination, icmp.UNREACHABLE_V6, icmp.PORT_UNREACHABLE_V6, 0)


def _error(
    frame: bytearray, packet: Packet, source: bytes, kind: int, code: int, value: int
) -> bytearray | None:
    """None where an error must not be sent: about an error, or a later fragment (RFC 1122 3.2.2)."""
    if packet.icmp_error or packet.fragment_offset:
        return None
    quoted = bytes(frame[IP : packet.end])
    ethertype = ETHERTYPE_IPV4 if packet.version == 4 else ETHERTYPE_IPV6
    return new_frame(ethertype, icmp.build_error(source, packet.source, kind, code, value, quoted))
