"""Step 5, translate: addresses, ports and checksums, in packets and in what ICMP errors quote.

A ``Rewrite`` is everything that one direction of a connection changes, with the checksum arithmetic
done beforehand. Under destination NAT it is the same for all connections of a service with a
backend and they share one; under full NAT a connection has its own pair.
"""

from __future__ import annotations

from struct import Struct

from l4lb.director.parse import Packet, Quoted
from l4lb.model import Endpoint
from l4lb.wire import icmp, ipv4, ipv6, tcp, udp
from l4lb.wire.checksum import delta, fold, ones_sum, update, update_partial
from l4lb.wire.frame import IP, NEEDS_CHECKSUM, VNET

_U16 = Struct("!H")
_PORT = Struct("!H")


def _place(width: int, first: int, stop: int) -> tuple[slice, slice, int]:
    """Where in a frame with a bare IP header the ends ``first`` up to ``stop`` are (0 is the source, 1
    the destination): addresses of ``width`` bytes, ports, and the offset of these in their header."""
    addresses = IP + (ipv4.SOURCE if width == 4 else ipv6.SOURCE)
    ports = IP + (ipv4.MINIMUM if width == 4 else ipv6.SIZE)
    return (
        slice(addresses + first * width, addresses + stop * width),
        slice(ports + 2 * first, ports + 2 * stop),
        2 * first,
    )


# Shared: a slice of one's own for each connection under full NAT is memory.
_PLACES = {
    (width, first, stop): _place(width, first, stop)
    for width in (4, 16)
    for first, stop in ((0, 1), (1, 2), (0, 2))
}


class Rewrite:
    """What one direction of a connection becomes.

    ``addresses`` are written at slice ``where`` and ``ports`` at ``ports_at`` of a frame with a bare
    IP header (the fast path); ``ports_skip`` is their offset in the transport header.
    ``full_delta`` repairs a full transport checksum, ``address_delta`` a partial one (ports are not in
    the pseudo-header), ``ip_delta`` an IPv4 header, TTL decrement included.
    """

    __slots__ = (
        "address_delta",
        "addresses",
        "full_delta",
        "ip_delta",
        "ports",
        "ports_at",
        "ports_skip",
        "where",
    )

    def __init__(self, old: tuple[Endpoint, Endpoint], new: tuple[Endpoint, Endpoint]) -> None:
        """``old`` and ``new`` are (source, destination); only what differs is written. An endpoint
        that stays may be any placeholder, the same on both sides."""
        changes_source, changes_destination = old[0] != new[0], old[1] != new[1]
        first, stop = 0 if changes_source else 1, 2 if changes_destination or not changes_source else 1
        place = _PLACES[len(old[0].ip), first, stop]
        self.where, self.ports_at, self.ports_skip = place
        self.addresses = b"".join(end.ip for end in new[first:stop])
        self.ports = b"".join(_PORT.pack(end.port) for end in new[first:stop])
        self.address_delta = delta(b"".join(end.ip for end in old[first:stop]), self.addresses)
        ports_delta = delta(b"".join(_PORT.pack(end.port) for end in old[first:stop]), self.ports)
        self.full_delta = fold(self.address_delta + ports_delta)
        self.ip_delta = fold(self.address_delta + ipv4.TTL_DECREMENT)


def translate(frame: bytearray, packet: Packet, rewrite: Rewrite) -> None:
    """Rewrite a packet in place: TTL, addresses, ports, checksums. Any IP header, any fragment."""
    if packet.version == 4:
        ipv4.rewrite(frame, IP, rewrite.ip_delta)
    else:
        frame[IP + ipv6.HOP_LIMIT] -= 1
    frame[rewrite.where] = rewrite.addresses
    if packet.fragment_offset:
        return
    at = packet.transport
    ports = at + rewrite.ports_skip
    frame[ports : ports + len(rewrite.ports)] = rewrite.ports
    field_at = at + (tcp.CHECKSUM if packet.protocol == tcp.PROTOCOL else udp.CHECKSUM)
    (field,) = _U16.unpack_from(frame, field_at)
    if frame[VNET] & NEEDS_CHECKSUM:
        field = update_partial(field, rewrite.address_delta)
    elif packet.protocol == tcp.PROTOCOL:
        field = update(field, rewrite.full_delta)
    elif field:
        field = update(field, rewrite.full_delta) or 0xFFFF
    _U16.pack_into(frame, field_at, field)


def translate_error(
    frame: bytearray, packet: Packet, *, outer: tuple[bytes, bytes], quoted: tuple[Endpoint, Endpoint]
) -> None:
    """Rewrite an ICMP error in place: ``outer`` are the new (source, destination) addresses of the
    packet itself, ``quoted`` the new (source, destination) of the packet it quotes.

    The quoted transport checksum is repaired where the quote reaches that far, so that the receiver
    of the error finds the packet it sent (RFC 5508 REQ-4, REQ-5). The ICMP checksum is repaired by
    what changed, not computed anew: damage on the way here stays visible.
    """
    inner = packet.quoted
    assert inner is not None
    before = bytes(frame[inner.at : _even(inner.at, inner.end)])
    _rewrite_quoted(frame, inner, packet.version, quoted)
    change = delta(before, frame[inner.at : _even(inner.at, inner.end)])

    old = packet.source + packet.destination
    new = outer[0] + outer[1]
    outer_delta = delta(old, new)
    source_at = IP + (ipv4.SOURCE if packet.version == 4 else ipv6.SOURCE)
    frame[source_at : source_at + len(new)] = new
    if packet.version == 4:
        ipv4.rewrite(frame, IP, outer_delta + ipv4.TTL_DECREMENT)
    else:
        frame[IP + ipv6.HOP_LIMIT] -= 1
    field_at = packet.transport + icmp.CHECKSUM
    (field,) = _U16.unpack_from(frame, field_at)
    pseudo = outer_delta if packet.version == 6 else 0  # only ICMPv6 sums a pseudo-header
    if frame[VNET] & NEEDS_CHECKSUM:
        field = update_partial(field, pseudo)
    else:
        field = update(field, fold(change + pseudo))
    _U16.pack_into(frame, field_at, field)


def _even(start: int, end: int) -> int:
    """Sums are of whole words; nothing is rewritten in the odd last byte."""
    return end - (end - start) % 2


def _rewrite_quoted(
    frame: bytearray, inner: Quoted, version: int, quoted: tuple[Endpoint, Endpoint]
) -> None:
    addresses = quoted[0].ip + quoted[1].ip
    change = delta(inner.source + inner.destination, addresses)
    if version == 4:
        addresses_at = inner.at + ipv4.SOURCE
        (field,) = _U16.unpack_from(frame, inner.at + ipv4.CHECKSUM)
        _U16.pack_into(frame, inner.at + ipv4.CHECKSUM, update(field, change))
    else:
        addresses_at = inner.at + ipv6.SOURCE
    frame[addresses_at : addresses_at + len(addresses)] = addresses
    ports = _PORT.pack(quoted[0].port) + _PORT.pack(quoted[1].port)
    at = inner.transport
    change = fold(change + delta(frame[at : at + 4], ports))
    frame[at : at + 4] = ports
    field_at = at + (tcp.CHECKSUM if inner.protocol == tcp.PROTOCOL else udp.CHECKSUM)
    if field_at + 2 > inner.end:
        return
    (field,) = _U16.unpack_from(frame, field_at)
    if inner.protocol == udp.PROTOCOL and not field:
        return
    field = update(field, change)
    _U16.pack_into(frame, field_at, field or 0xFFFF if inner.protocol == udp.PROTOCOL else field)


def complete_checksum(frame: bytearray, packet: Packet) -> None:
    """Turn a partial transport checksum into a full one, for frames we cut up ourselves."""
    if not frame[VNET] & NEEDS_CHECKSUM:
        return
    at = packet.transport
    field_at = at + (tcp.CHECKSUM if packet.protocol == tcp.PROTOCOL else udp.CHECKSUM)
    # The field holds the pseudo-header's sum: summing it along with the rest is the definition.
    field = ones_sum(frame[at : packet.end]) ^ 0xFFFF
    if packet.protocol == udp.PROTOCOL:
        field = field or 0xFFFF
    _U16.pack_into(frame, field_at, field)
    frame[VNET] &= ~NEEDS_CHECKSUM & 0xFF
