"""Established packets: one lookup on the bytes of the tuple, precomputed rewrites, no objects made.

This is director.py for the packets that come a million times: plain TCP segments and UDP datagrams
of established connections, no IP options, no fragments, no Ethernet trailer, no SYN, FIN or RST, next
hop known, small enough. For those it does exactly what the clear way does (a property test holds it to
that) and returns the next hop; for anything else it returns None, having changed nothing.

It is one long function on purpose. A Python call costs as much as ten of its lines, every attribute
is read once, and constants are spelled out, because CPython looks a global name up on every use.
Offsets are those of wire/frame.py: the IP header is at 24.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from l4lb.director.connection import Hop
from l4lb.director.conntrack import ConnectionTable
from l4lb.director.measure import answered, wait
from l4lb.model import State

FastPath = Callable[[bytearray, int, float], Hop | None]
"""(frame, end, now) -> next hop, with the frame rewritten in place; None: not for the fast path."""

# Of an IPv4 packet, from the Ethernet type at 22: type, version+length, total length, fragment,
# TTL, protocol, checksum, tuple (12 bytes); of TCP: sequence, acknowledgement, offset+flags, checksum.
_READ_V4 = Struct("!HBxH2xHBBH12sIIHxxH")
# Of an IPv6 packet, from its first byte: version, payload length, next header, hop limit, tuple
# (36 bytes); of TCP as above.
_READ_V6 = Struct("!B3xHBB36sIIHxxH")
_READ_GSO = Struct("=BBHH")  # of the virtio-net header: flags, type, header length, segment size
_WRITE_V4 = Struct("!BBH")  # TTL, protocol, checksum
_U16 = Struct("!H")

# Data offset, ACK, SYN, FIN and RST of the 16 bits at 12 -> length of the TCP header. Only segments
# with ACK, without the other three, and with an offset of at least 5 are in here.
_TCP_LENGTH = {offset << 12 | 0x10: offset * 4 for offset in range(5, 16)}


def fast_path(table: ConnectionTable) -> FastPath:
    """The fast path over this table."""
    tcp_flows = table.tcp
    udp_flows = table.udp
    read_v4 = _READ_V4.unpack_from
    read_v6 = _READ_V6.unpack_from
    read_gso = _READ_GSO.unpack_from
    write_v4 = _WRITE_V4.pack_into
    write_u16 = _U16.pack_into
    read_u16 = _U16.unpack_from
    tcp_length = _TCP_LENGTH.get
    established = State.ESTABLISHED
    udp_established = State.UDP

    def forward(frame: bytearray, end: int, now: float) -> Hop | None:
        (kind, version, length, fragment, ttl, protocol, ip_sum, key, sequence, acked, flags, field) = (
            read_v4(frame, 22)
        )
        if kind == 0x0800:
            if version != 0x45 or fragment & 0x3FFF or ttl < 2 or length + 24 != end:
                return None
            transport = 44
        elif kind == 0x86DD:
            version, length, protocol, ttl, key, sequence, acked, flags, field = read_v6(frame, 24)
            length += 40
            if version >> 4 != 6 or ttl < 2 or length + 24 != end:
                return None
            transport = 64
        else:
            return None

        if protocol == 6:
            connection = tcp_flows.get(key)
            if connection is None or connection.state is not established:
                return None
            header = tcp_length(flags & 0xF017)
            if header is None or length < transport - 24 + header:
                return None
        elif protocol == 17:
            connection = udp_flows.get(key)
            if connection is None or connection.state is not udp_established:
                return None
            (udp_length,) = read_u16(frame, transport + 4)
            if udp_length < 8 or udp_length > length + 24 - transport:
                return None
            header = 8
            (field,) = read_u16(frame, transport + 6)
        else:
            return None

        path = connection.path
        if not path.alive and path.reset_when_down:
            return None
        to_backend = key == connection.original
        if to_backend:
            rewrite = connection.forward
            hop = path.hop
        else:
            rewrite = connection.backward
            hop = connection.client_hop
        if hop is None or hop.header is None:
            return None
        if length > hop.mtu:
            _, gso_type, _, segment = read_gso(frame, 0)
            if not gso_type or not segment or transport - 24 + header + segment > hop.mtu:
                return None

        # From here on the packet is forwarded.
        connection.seen = now
        if to_backend:
            path.packets_in += 1
            path.bytes_in += length
            if protocol == 6:
                connection.acked_by_client = acked
                if connection.asked is None and (payload := length + 24 - transport - header):
                    known = connection.acked_by_backend
                    if known is None or 0 < (sequence + payload - known) & 0xFFFFFFFF < 0x80000000:
                        wait(connection, now)
            elif connection.asked is None:
                wait(connection, now)
        else:
            path.packets_out += 1
            path.bytes_out += length
            if protocol == 6:
                connection.acked_by_backend = acked
                if connection.asked is not None and (payload := length + 24 - transport - header):
                    known = connection.acked_by_client
                    if known is None or 0 < (sequence + payload - known) & 0xFFFFFFFF < 0x80000000:
                        answered(connection, now)
            elif connection.asked is not None:
                answered(connection, now)
        frame[10:24] = hop.header
        if transport == 44:
            total = (ip_sum ^ 0xFFFF) + rewrite.ip_delta
            write_v4(frame, 32, ttl - 1, protocol, ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF)
        else:
            frame[31] = ttl - 1
        frame[rewrite.where] = rewrite.addresses
        frame[rewrite.ports_at] = rewrite.ports
        if frame[0] & 1:  # partial: the sum of the pseudo-header, ports are not in it
            total = field + rewrite.address_delta
            total = (total & 0xFFFF) + (total >> 16)
        elif protocol == 6 or field:
            total = (field ^ 0xFFFF) + rewrite.full_delta
            total = ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF
            if protocol == 17 and not total:
                total = 0xFFFF
        else:
            return hop  # UDP without a checksum
        write_u16(frame, transport + (16 if protocol == 6 else 6), total)
        return hop

    return forward
