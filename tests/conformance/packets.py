"""The notation for packets: what a case sends and what it expects, built by scapy.

``tcp(net.client, net.vip, "S", seq=1)`` is a frame; other functions here change one into a cut,
partial, fragmented or otherwise unusual one. Each field that a case does not name has a fixed,
recognisable value, so that an engine which changes it is found out. Lengths and checksums are
scapy's. Ethernet addresses are not part of the notation: they follow from the route.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from scapy.layers.inet import IP, TCP, UDP, in4_pseudoheader
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, in6_pseudoheader
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from tests.conformance.world import Host, packed_mac

IPV4: Final = 0x0800
IPV6: Final = 0x86DD
VLAN: Final = 0x8100
VLAN_ID: Final = 0x0FFF

NEEDS_CHECKSUM: Final = 1  # linux/virtio_net.h
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_UDP: Final = 5  # VIRTIO_NET_HDR_GSO_UDP_L4
VNET: Final = 10  # bytes in front of every frame
ETHERNET: Final = 14

TTL: Final = 64
IDENTIFICATION: Final = 0x4C34
TOS: Final = 0x2A  # AF11 and ECN ECT(0): a NAT changes neither
FLOW_LABEL: Final = 0x6C346
WINDOW: Final = 0x1234

_VNET = struct.Struct("=BBHHHH")


@dataclass(frozen=True)
class Vnet:
    """What a virtio-net header says, without its hints: DATA_VALID and the header length."""

    partial: bool = False
    start: int = 0  # of the sum, from the Ethernet header on; 0 unless partial
    offset: int = 0  # of the checksum field from there
    gso_type: int = 0
    gso_size: int = 0

    @classmethod
    def read(cls, header: bytes) -> Vnet:
        """From the 10 bytes in front of a frame."""
        flags, gso_type, _, gso_size, start, offset = _VNET.unpack(header)
        if not flags & NEEDS_CHECKSUM:
            start = offset = 0
        return cls(bool(flags & NEEDS_CHECKSUM), start, offset, gso_type, gso_size if gso_type else 0)

    def pack(self, header_length: int) -> bytes:
        """The 10 bytes."""
        return _VNET.pack(
            self.partial, self.gso_type, header_length, self.gso_size, self.start, self.offset
        )


@dataclass(frozen=True)
class Frame:
    """A packet and what is around it, but for the Ethernet addresses."""

    packet: bytes  # from the IP header on
    ethertype: int
    vnet: Vnet = Vnet()
    trailer: bytes = b""
    vlan: int | None = None

    @property
    def dissected(self) -> Packet:
        """The packet as scapy reads it."""
        return (IP if self.ethertype == IPV4 else IPv6)(self.packet)

    @property
    def source(self) -> str | None:
        """The source address; None if this is no IP packet."""
        version, header = (4, 20) if self.ethertype == IPV4 else (6, 40)
        if self.ethertype not in (IPV4, IPV6) or len(self.packet) < header:
            return None
        if self.packet[0] >> 4 != version:
            return None
        address: str = self.dissected.src
        return address

    @property
    def transport(self) -> int:
        """Offset of the transport header in the packet."""
        packet = self.dissected
        while not isinstance(packet, TCP | UDP):
            packet = packet.payload
        return len(self.packet) - len(packet.original)

    def on_wire(self, source: str, destination: str) -> bytes:
        """The frame behind its virtio-net header, between two Ethernet addresses."""
        addresses = packed_mac(destination) + packed_mac(source)
        tag = b"" if self.vlan is None else struct.pack("!HH", VLAN, self.vlan)
        ethernet = addresses + tag + self.ethertype.to_bytes(2, "big")
        if self.vnet == Vnet():
            headers = 0
        else:
            headers = ETHERNET + self.transport + _header_length(self)
        return self.vnet.pack(headers) + ethernet + self.packet + self.trailer


def _header_length(frame: Frame) -> int:
    at = frame.transport
    return (frame.packet[at + 12] >> 4) * 4 if frame.dissected.haslayer(TCP) else 8


def ip(
    source: Host,
    destination: Host,
    *,
    ttl: int = TTL,
    df: bool = True,
    options: Sequence[Any] = (),
    extensions: Sequence[Packet] = (),
    **fields: Any,
) -> Packet:
    """An IP header of the version of the addresses. ``options`` are IPv4's, ``extensions`` IPv6's."""
    if ":" in source.ip:
        fields = {"tc": TOS, "fl": FLOW_LABEL, **fields}
        header: Packet = IPv6(src=source.ip, dst=destination.ip, hlim=ttl, **fields)
        for extension in extensions:
            header /= extension
        return header
    fields = {"tos": TOS, "id": IDENTIFICATION, "flags": "DF" if df else 0, **fields}
    return IP(src=source.ip, dst=destination.ip, ttl=ttl, options=list(options), **fields)


def frame(packet: Packet) -> Frame:
    """A frame around a scapy packet."""
    return Frame(bytes(packet), IPV6 if isinstance(packet, IPv6) else IPV4)


def tcp(
    source: Host,
    destination: Host,
    flags: str,
    *,
    seq: int = 0,
    ack: int = 0,
    data: bytes = b"",
    tcp_options: Sequence[Any] = (),
    window: int = WINDOW,
    sum: int | None = None,
    **header: Any,
) -> Frame:
    """A TCP segment; ``flags`` as scapy writes them: S, SA, A, PA, FA, R, ..."""
    segment = TCP(
        sport=source.port,
        dport=destination.port,
        flags=flags,
        seq=seq % 2**32,
        ack=ack % 2**32,
        window=window,
        options=list(tcp_options),
        chksum=sum,
    )
    return frame(ip(source, destination, **header) / segment / Raw(data))


def udp(
    source: Host, destination: Host, data: bytes = b"data", *, sum: int | None = None, **header: Any
) -> Frame:
    """A UDP datagram; ``sum=0`` is one without a checksum."""
    datagram = UDP(sport=source.port, dport=destination.port, chksum=sum)
    return frame(ip(source, destination, **header) / datagram / Raw(data))


def rst(source: Host, destination: Host, *, seq: int = 0, ack: int | None = None) -> Frame:
    """A reset as the gateway makes it: nothing in it but what RFC 9293 3.10.7 asks for."""
    flags = "R" if ack is None else "RA"
    return tcp(source, destination, flags, seq=seq, ack=ack or 0, window=0, **plain(source))


def plain(source: Host) -> dict[str, Any]:
    """The header fields of packets that the gateway makes itself."""
    return {"tc": 0, "fl": 0} if ":" in source.ip else {"tos": 0, "id": 0}


def icmp(
    source: Host,
    destination: Host,
    kind: tuple[int, int],
    body: bytes = b"",
    *,
    value: int = 0,
    **header: Any,
) -> Frame:
    """An ICMP message of ``kind`` (type, code): checksum, the four bytes of ``value``, ``body``."""
    layer = ip(source, destination, **header)
    message = struct.pack("!BBHI", *kind, 0, value) + body
    if ":" in source.ip:
        layer.lastlayer().nh = 58
        pseudo = _pseudo_header(58, IPv6(src=source.ip, dst=destination.ip), len(message))
    else:
        layer.proto = 1
        pseudo = b""  # only ICMPv6 sums one
    total = checksum(pseudo + message)
    return frame(layer / Raw(message[:2] + total.to_bytes(2, "big") + message[4:]))


def _pseudo_header(protocol: int, layer: Any, length: int) -> bytes:
    make: Any = in4_pseudoheader if isinstance(layer, IP) else in6_pseudoheader
    return bytes(make(protocol, layer, length))


def quote(packet: Frame, length: int | None = None) -> bytes:
    """The first ``length`` bytes of a packet, as an ICMP error quotes them."""
    return packet.packet[:length]


# -- unusual frames --------------------------------------------------------------------------------


def cut(packet: Frame, length: int) -> Frame:
    """Only the first ``length`` bytes of the packet; what its headers say is not changed."""
    return replace(packet, packet=packet.packet[:length])


def patched(packet: Frame, at: int, data: bytes) -> Frame:
    """Bytes overwritten, checksums left as they were."""
    return replace(packet, packet=packet.packet[:at] + data + packet.packet[at + len(data) :])


def damaged(packet: Frame, at: int) -> Frame:
    """A checksum field at ``at`` that is wrong by one, in one's complement."""
    field = int.from_bytes(packet.packet[at : at + 2], "big") + 1
    return patched(packet, at, (field % 0xFFFF).to_bytes(2, "big"))


def data_summing_to(field: int, make: Callable[[bytes], Frame]) -> bytes:
    """Two bytes of payload with which ``make`` gives a packet of this transport checksum."""
    packet = make(b"\0\0")
    at = packet.transport + (16 if packet.dissected.haslayer(TCP) else 6)
    data = (int.from_bytes(packet.packet[at : at + 2], "big") - field) % 0xFFFF
    found = make(data.to_bytes(2, "big"))
    assert int.from_bytes(found.packet[at : at + 2], "big") == field
    return data.to_bytes(2, "big")


def trailed(packet: Frame, trailer: bytes) -> Frame:
    """With bytes behind the packet, as Ethernet pads short frames."""
    return replace(packet, trailer=trailer)


def tagged(packet: Frame, vlan: int) -> Frame:
    """With a VLAN tag: the VLAN, and a priority in the three highest of 16 bits."""
    return replace(packet, vlan=vlan)


def partial(packet: Frame) -> Frame:
    """With the transport checksum left to the receiver: the field holds the pseudo-header's sum."""
    at, layer = packet.transport, packet.dissected
    protocol = 6 if layer.haslayer(TCP) else 17
    length = len(packet.packet) - at
    pseudo = _pseudo_header(protocol, layer, length)
    offset = 16 if protocol == 6 else 6
    field = checksum(pseudo) ^ 0xFFFF
    vnet = Vnet(True, ETHERNET + at, offset)
    return replace(patched(packet, at + offset, field.to_bytes(2, "big")), vnet=vnet)


def gso(packet: Frame, size: int) -> Frame:
    """A partial frame that stands for many packets, each with ``size`` bytes of the payload."""
    packet = partial(packet)
    if packet.vnet.offset == 6:
        kind = GSO_UDP
    else:
        kind = GSO_TCPV4 if packet.ethertype == IPV4 else GSO_TCPV6
    return replace(packet, vnet=replace(packet.vnet, gso_type=kind, gso_size=size))


def fragments(packet: Frame, *sizes: int, identification: int) -> list[Frame]:
    """The packet cut behind its IP header into pieces of these sizes and the rest.

    All sizes must be multiples of 8.
    """
    whole = packet.dissected
    version4 = packet.ethertype == IPV4
    start = whole.ihl * 4 if version4 else 40
    body, pieces, offset = packet.packet[start:], [], 0
    for size in (*sizes, len(body) - sum(sizes)):
        more = offset + size < len(body)
        chunk = Raw(body[offset : offset + size])
        header = whole.copy()
        header.remove_payload()
        if version4:
            header.id, header.flags, header.frag = identification, "MF" if more else 0, offset // 8
            header.len = header.chksum = None
        else:
            extension = IPv6ExtHdrFragment(nh=whole.nh, offset=offset // 8, m=more, id=identification)
            header.plen, header.nh = None, 44
            header /= extension
        pieces.append(frame(header / chunk))
        offset += size
    return pieces
