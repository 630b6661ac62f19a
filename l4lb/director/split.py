"""Packets larger than the next hop's MTU that may be cut: IPv4 without Don't Fragment (RFC 791)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from l4lb.director.parse import Packet
from l4lb.director.translate import complete_checksum
from l4lb.wire import ipv4, tcp, udp
from l4lb.wire.checksum import checksum, pseudo_header
from l4lb.wire.frame import ETHERNET, GSO_UDP, IP, PLAIN, VnetHeader

_U16 = Struct("!H")


def allowed(frame: bytearray, packet: Packet) -> bool:
    """True if the packet may be cut on its way."""
    if packet.version != 4:
        return False
    (field,) = _U16.unpack_from(frame, IP + ipv4.FRAGMENT)
    return not field & ipv4.DONT_FRAGMENT


def split(frame: bytearray, packet: Packet, mtu: int) -> list[bytearray]:
    """Frames that carry the packet in pieces of at most ``mtu`` IP bytes.

    A TCP GSO frame stays whole: its segments are made smaller instead, a stream has no boundaries.
    Datagrams have: those of a UDP GSO frame are taken apart and cut one by one.
    """
    vnet = VnetHeader.read(frame)
    header = frame[IP : packet.transport]
    if vnet.gso_type and packet.protocol == tcp.PROTOCOL:
        room = mtu - len(header) - (frame[packet.transport + 12] >> 4) * 4
        vnet._replace(gso_size=room).write(frame)
        return [frame[: packet.end]]
    if vnet.gso_type == GSO_UDP and vnet.gso_size:
        datagrams = _datagrams(frame, packet, vnet.gso_size)
        packets = [piece for head, body in datagrams for piece in _cut(head, body, packet, mtu)]
    else:
        if not packet.fragment_offset:
            complete_checksum(frame, packet)
        packets = list(_cut(header, frame[packet.transport : packet.end], packet, mtu))
    return [bytearray(PLAIN) + frame[ETHERNET:IP] + piece for piece in packets]


def _datagrams(frame: bytearray, packet: Packet, size: int) -> Iterator[tuple[bytearray, bytearray]]:
    """What a UDP GSO frame stands for, each as IP header and UDP datagram, identifications counted up
    (``inet_gso_segment``)."""
    header = frame[IP : packet.transport]
    (identification,) = _U16.unpack_from(header, ipv4.IDENTIFICATION)
    source = bytes(header[ipv4.SOURCE : ipv4.SOURCE + 4])
    destination = bytes(header[ipv4.DESTINATION : ipv4.DESTINATION + 4])
    ports = frame[packet.transport : packet.transport + 4]
    payload = frame[packet.transport + udp.SIZE : packet.end]
    for number, start in enumerate(range(0, len(payload), size)):
        body = payload[start : start + size]
        length = udp.SIZE + len(body)
        datagram = ports + _U16.pack(length) + bytes(2) + body
        total = checksum(datagram, pseudo_header(source, destination, udp.PROTOCOL, length)) or 0xFFFF
        _U16.pack_into(datagram, udp.CHECKSUM, total)
        _U16.pack_into(header, ipv4.IDENTIFICATION, (identification + number) & 0xFFFF)
        yield header[:], datagram


def _cut(header: bytearray, payload: bytearray, packet: Packet, mtu: int) -> Iterator[bytearray]:
    """IP packets that carry ``payload``, which begins and ends where ``packet`` does."""
    room = mtu - len(header)
    step = room if len(payload) <= room else room // 8 * 8
    for start in range(0, len(payload), step):
        piece = payload[start : start + step]
        more = packet.more_fragments or start + step < len(payload)
        offset = (packet.fragment_offset + start) // 8
        if start == step:
            _keep_copied_options(header)
        _U16.pack_into(header, ipv4.TOTAL_LENGTH, len(header) + len(piece))
        _U16.pack_into(header, ipv4.FRAGMENT, offset | (ipv4.MORE_FRAGMENTS if more else 0))
        _U16.pack_into(header, ipv4.CHECKSUM, 0)
        _U16.pack_into(header, ipv4.CHECKSUM, checksum(header))
        yield header + piece


def _keep_copied_options(header: bytearray) -> None:
    """Blank the options that belong into the first fragment only (RFC 791 3.1, ``copied flag``)."""
    at = ipv4.MINIMUM
    while at < len(header) and header[at] != ipv4.END_OF_OPTIONS:
        if header[at] == ipv4.NO_OPERATION:
            at += 1
            continue
        length = header[at + 1] if at + 1 < len(header) else 0
        if length < 2 or at + length > len(header):
            return  # malformed, and as it was
        if not header[at] & ipv4.COPIED:
            header[at : at + length] = bytes((ipv4.NO_OPERATION,)) * length
        at += length
