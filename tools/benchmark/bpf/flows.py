"""Packets of many flows, as flows.h writes them: the frame to begin with and the order. Pure.

Flow N has client N // PORTS behind ``CLIENTS`` and one of PORTS ports; it talks to one of the services
at the destination, whose ports are in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from l4lb.model import Endpoint
from l4lb.wire import ipv4, tcp
from l4lb.wire.checksum import checksum, pseudo_header
from l4lb.wire.frame import ETHERTYPE_IPV4

CLIENTS: Final = Endpoint.parse("10.128.0.0:1").ip
PORTS: Final = 50_000
FIRST_PORT: Final = 10_000
FRAME: Final = 66  # bytes

RANDOM: Final = 4_000_000_000
"""So many flows that none comes twice in a benchmark."""

CLIENT_ISN: Final = 1
BACKEND_ISN: Final = 1_000  # of receiver.c

_ORDER: Final = Struct("=72sIIIII4x")  # struct order
# What Linux sends: most established packets are this small, without a trailer of Ethernet's.
_SYN_OPTIONS: Final = bytes.fromhex("020405b4 0103030a 01010402")  # MSS, window scale, SACK
_OPTIONS: Final = bytes.fromhex("0101080a 00000001 00000001")  # timestamp
_HEADER: Final = tcp.MINIMUM + len(_OPTIONS)
_PORT_LAST: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Order:
    """What the generator is to send.

    Attributes:
        macs: Ethernet addresses, destination and source.
        destination: where it goes: the first service.
        flags: of TCP.
        flows: how many.
        services: how many, on ports in a row from the destination's.
        first: the flow to begin with, where they come in turn.
        shuffled: they come in random order.
    """

    macs: tuple[str, str]
    destination: Endpoint
    flags: int
    flows: int
    services: int = 1
    first: int = 0
    shuffled: bool = False

    def pack(self) -> bytes:
        """As the value of the map ``orders``.

        Raises:
            ValueError: there are not as many ports for services.
        """
        if self.destination.port + self.services - 1 > _PORT_LAST:
            raise ValueError(f"{self.services} services from port {self.destination.port} on")
        clients = int.from_bytes(CLIENTS, "big")
        return _ORDER.pack(self.frame(), clients, self.flows, self.services, self.first, self.shuffled)

    def frame(self) -> bytes:
        """What all frames begin as: a segment from 0.0.0.0 port 0, to which the program adds the client.
        A SYN begins a connection, everything else goes on after the handshake with receiver.c."""
        begins = self.flags == tcp.SYN
        segment = bytearray(tcp.MINIMUM) + (_SYN_OPTIONS if begins else _OPTIONS)
        tcp.HEADER.pack_into(
            segment,
            0,
            0,
            self.destination.port,
            CLIENT_ISN if begins else CLIENT_ISN + 1,
            0 if begins else BACKEND_ISN + 1,
            _HEADER // 4 << 12 | self.flags,
            502,
            0,
        )
        nobody = bytes(4)
        pseudo = pseudo_header(nobody, self.destination.ip, tcp.PROTOCOL, len(segment))
        segment[tcp.CHECKSUM : tcp.CHECKSUM + 2] = checksum(segment, pseudo).to_bytes(2, "big")
        packet = ipv4.build(nobody, self.destination.ip, tcp.PROTOCOL, bytes(segment))
        macs = b"".join(map(mac_bytes, self.macs))
        return macs + ETHERTYPE_IPV4.to_bytes(2, "big") + packet


def client(flow: int) -> Endpoint:
    """The client's end of a flow."""
    address = int.from_bytes(CLIENTS, "big") + flow // PORTS
    return Endpoint(address.to_bytes(4, "big"), FIRST_PORT + flow % PORTS)


def mac_bytes(text: str) -> bytes:
    """An Ethernet address, six bytes."""
    return bytes.fromhex(text.replace(":", ""))
