"""Packets larger than the next hop's MTU that may be cut: IPv4 without Don't Fragment (RFC 791)."""

from __future__ import annotations

from struct import Struct

from l4lb.director.parse import Packet
from l4lb.director.translate import complete_checksum
from l4lb.wire import ipv4, tcp, udp
from l4lb.wire.checksum import checksum
from l4lb.wire.frame import ETHERNET, IP, PLAIN, VnetHeader

_U16 = Struct("!H")


def allowed(frame: bytearray, packet: Packet) -> bool:
    """True if the packet may be cut on its way."""
    if packet.version != 4:
        return False
    (field,) = _U16.unpack_from(frame, IP + ipv4.FRAGMENT)
    return not field & ipv4.DONT_FRAGMENT


def split(frame: bytearray, packet: Packet, mtu: int) -> list[bytearray]:
    """Frames that carry the packet in pieces of at most ``mtu`` IP bytes.

    A GSO frame stays whole: its segments are made smaller instead, the kernel cuts it so anyway.
    """
    vnet = VnetHeader.read(frame)
    if vnet.gso_type:
        transport = (frame[packet.transport + 12] >> 4) * 4 if packet.protocol == tcp.PROTOCOL else udp.SIZE
        room = mtu - (packet.transport - IP) - transport
        vnet._replace(gso_size=room).write(frame)
        return [frame[: packet.end]]
    if not packet.fragment_offset:
        complete_checksum(frame, packet)
    header = frame[IP : packet.transport]
    payload = frame[packet.transport : packet.end]
    step = (mtu - len(header)) // 8 * 8
    pieces = []
    for start in range(0, len(payload), step):
        piece = payload[start : start + step]
        more = packet.more_fragments or start + step < len(payload)
        offset = (packet.fragment_offset + start) // 8
        _U16.pack_into(header, ipv4.TOTAL_LENGTH, len(header) + len(piece))
        _U16.pack_into(header, ipv4.FRAGMENT, offset | (ipv4.MORE_FRAGMENTS if more else 0))
        _U16.pack_into(header, ipv4.CHECKSUM, 0)
        _U16.pack_into(header, ipv4.CHECKSUM, checksum(header))
        pieces.append(bytearray(PLAIN) + frame[ETHERNET:IP] + header + piece)
    return pieces
