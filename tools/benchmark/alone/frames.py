"""Frames of made-up conversations, and a gateway without sockets to put them through.

The frames are what a packet socket gives for the small packets of a Linux host: SYNs with the usual
options, everything else with a timestamp, full checksums unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from struct import Struct
from typing import Final

from l4lb.director.connection import Hop
from l4lb.director.director import Director
from l4lb.model import BackendPlan, Endpoint, Limits, Nat, Plan, Protocol, Selection, ServicePlan
from l4lb.wire import ipv4, ipv6, tcp, udp
from l4lb.wire.checksum import checksum, pseudo_header
from l4lb.wire.frame import ETHERTYPE_IPV4, ETHERTYPE_IPV6, NEEDS_CHECKSUM, VnetHeader, new_frame

VIP: Final = {4: Endpoint.parse("10.1.0.100:80"), 6: Endpoint.parse("[2001:db8:1::100]:80")}
SNAT: Final = {4: Endpoint.parse("10.2.0.1:1").ip, 6: Endpoint.parse("[2001:db8:2::1]:1").ip}

SYN: Final = tcp.SYN
SYN_ACK: Final = tcp.SYN | tcp.ACK
ACK: Final = tcp.ACK
FIN: Final = tcp.FIN
FIN_ACK: Final = tcp.FIN | tcp.ACK

_SYN_OPTIONS: Final = bytes.fromhex("020405b4 0402080a 00000001 00000000 0103030a")
_OPTIONS: Final = bytes.fromhex("0101080a 00000001 00000001")
_U16: Final = Struct("!H")


def client(number: int, version: int = 4) -> Endpoint:
    """One of a million clients: 50,000 ports of as many addresses as it takes."""
    address, port = divmod(number, 50_000)
    prefix = bytes.fromhex("0a01") if version == 4 else bytes.fromhex("20010db8000100000000000000")
    width = (4 if version == 4 else 16) - len(prefix)
    return Endpoint(prefix + (address + 1_000).to_bytes(width, "big"), 10_000 + port)


def backends(count: int, version: int = 4) -> list[Endpoint]:
    """Addresses of backends, all different."""
    prefix = bytes.fromhex("0a02") if version == 4 else bytes.fromhex("20010db8000200000000000000")
    width = (4 if version == 4 else 16) - len(prefix)
    return [Endpoint(prefix + (number + 10).to_bytes(width, "big"), 8_080) for number in range(count)]


def segment(
    source: Endpoint,
    destination: Endpoint,
    flags: int,
    *,
    sequence: int = 1,
    acknowledgement: int = 1,
    payload: bytes = b"",
    partial: bool = False,
) -> bytes:
    """A frame with a TCP segment. ``partial``: the checksum is left to the receiver, as it is on
    virtual links."""
    options = _SYN_OPTIONS if flags & tcp.SYN else _OPTIONS
    length = tcp.MINIMUM + len(options)
    data = bytearray(length) + payload
    offset_and_flags = length // 4 << 12 | flags
    tcp.HEADER.pack_into(
        data, 0, source.port, destination.port, sequence, acknowledgement, offset_and_flags, 502, 0
    )
    data[tcp.MINIMUM : length] = options
    pseudo = pseudo_header(source.ip, destination.ip, tcp.PROTOCOL, len(data))
    _U16.pack_into(data, tcp.CHECKSUM, pseudo if partial else checksum(data, pseudo))
    frame = _frame(source, destination, tcp.PROTOCOL, bytes(data))
    if partial:
        start = len(frame) - len(data) - 10
        VnetHeader(NEEDS_CHECKSUM, checksum_start=start, checksum_offset=tcp.CHECKSUM).write(frame)
    return bytes(frame)


def datagram(source: Endpoint, destination: Endpoint, payload: bytes = b"ping") -> bytes:
    """A frame with a UDP datagram."""
    length = udp.SIZE + len(payload)
    data = bytearray(udp.HEADER.pack(source.port, destination.port, length, 0) + payload)
    pseudo = pseudo_header(source.ip, destination.ip, udp.PROTOCOL, length)
    _U16.pack_into(data, udp.CHECKSUM, checksum(data, pseudo) or 0xFFFF)
    return bytes(_frame(source, destination, udp.PROTOCOL, bytes(data)))


def _frame(source: Endpoint, destination: Endpoint, protocol: int, data: bytes) -> bytearray:
    if source.version == 4:
        return new_frame(ETHERTYPE_IPV4, ipv4.build(source.ip, destination.ip, protocol, data))
    return new_frame(ETHERTYPE_IPV6, ipv6.build(source.ip, destination.ip, protocol, data))


def gateway(
    selection: Selection,
    servers: Sequence[Endpoint],
    *,
    protocol: Protocol = Protocol.TCP,
    nat: Nat = Nat.DESTINATION,
    limit: int = Limits().established,
) -> Director:
    """A director with one service at the VIP, every address behind one next hop that is known.

    ``limit`` is how many established connections it takes. Its time begins at 0.
    """
    hop = Hop(1, b"", 1_500)
    version = servers[0].version
    ethertype = ETHERTYPE_IPV4 if version == 4 else ETHERTYPE_IPV6
    hop.header = bytes(12) + _U16.pack(ethertype)
    director = Director(0.0, lambda address: hop, Random(1))
    snat = SNAT[version] if nat is Nat.FULL else None
    plans = tuple(BackendPlan(server, snat=snat) for server in servers)
    service = ServicePlan("bench", VIP[version], protocol, selection, plans, nat=nat)
    director.configure(Plan((service,), limits=Limits(established=limit)))
    return director
