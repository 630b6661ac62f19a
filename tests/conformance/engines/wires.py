"""The far ends of the gateway's links: packet sockets that send and receive whole frames."""

from __future__ import annotations

import select
import socket
import time
from itertools import count
from typing import Final

from netlab.namespace import entered
from tests.conformance.packets import ETHERNET, IPV4, VNET, Frame, tcp
from tests.conformance.world import GATEWAY_MAC, V4, Host, NextHop, Side

DEADLINE: Final = 10.0  # seconds

_SOL_PACKET: Final = 263
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_ETH_P_ALL: Final = 3
_SO_RCVBUFFORCE: Final = 33
_LONGEST: Final = VNET + ETHERNET + 65_535

FENCE: Final = V4.vip.at(9)
"""A service without backends answers here."""

_SENDERS: Final = {Side.CLIENTS: Host("10.1.0.250", 1), Side.BACKENDS: Host("10.2.0.250", 1)}

Captured = list[tuple[Side, bytes]]


class Wires:
    """Both links."""

    def __init__(self, namespaces: dict[Side, str]) -> None:
        self._sockets = {side: _packet_socket(namespace) for side, namespace in namespaces.items()}
        self._numbers = count(1)
        self.fences = 0
        """SYNs sent to ``FENCE``."""

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets.values():
            sock.close()

    def send(self, side: Side, frame: bytes) -> None:
        """A frame, virtio-net header in front, goes to the gateway."""
        self._sockets[side].send(frame)

    def wait(self, frames: int) -> Captured:
        """What comes out, until it is so many frames or the deadline has passed."""
        out: Captured = []
        deadline = time.monotonic() + DEADLINE
        while len(out) < frames and time.monotonic() < deadline:
            out += self._receive(deadline)
        return out

    def settle(self) -> Captured:
        """What comes out until the gateway is done with all that was sent.

        Nothing tells when it is, so a fence follows: a SYN to a service without backends, which is
        answered at once, has no place in any table, and comes out behind whatever the frames before
        it have caused. There is one on each side, the second sent when the first is back: what
        crossed the gateway is out by then too.
        """
        out: Captured = []
        for side in Side:
            sender, number = _SENDERS[side], next(self._numbers)
            hop = NextHop(side, sender.ip, 0)
            self.send(side, tcp(sender, FENCE, "S", seq=number).on_wire(hop.mac, GATEWAY_MAC[side]))
            self.fences += 1
            out += self._until_answered(side, number)
        return out

    def _until_answered(self, side: Side, number: int) -> Captured:
        out: Captured = []
        deadline = time.monotonic() + DEADLINE
        while True:
            frames = self._receive(deadline)
            others = [
                (found, frame)
                for found, frame in frames
                if found is not side or not _answers(frame, number)
            ]
            out += others
            if len(others) < len(frames):
                return out
            assert time.monotonic() < deadline, f"the gateway does not answer on {side.value}"

    def _receive(self, deadline: float) -> Captured:
        """At most one frame of each side; nothing once the deadline has passed."""
        patience = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(list(self._sockets.values()), [], [], patience)
        frames = [(side, sock.recv(_LONGEST)) for side, sock in self._sockets.items() if sock in ready]
        # What a kernel says to multicast groups (neighbour discovery) is none of the table's business.
        return [(side, frame) for side, frame in frames if not frame[VNET] & 1]


def _answers(frame: bytes, number: int) -> bool:
    """True if this is the RST from the fence that acknowledges a SYN with this number."""
    packet = frame[VNET + ETHERNET :]
    if frame[VNET + 12 : VNET + 14] != IPV4.to_bytes(2, "big") or len(packet) != 40:
        return False
    segment = Frame(packet, IPV4).dissected.payload
    return bool(segment.sport == FENCE.port and segment.ack == number + 1)


def _packet_socket(namespace: str) -> socket.socket:
    with entered(namespace):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
    sock.bind(("peer", _ETH_P_ALL))
    return sock
