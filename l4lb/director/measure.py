"""What a packet tells of how its backend is doing, learnt in passing.

A connection *waits* from the first packet with new data of its client to the first one of its backend:
that is a request and its answer, whatever the protocol, again and again on a connection that is kept.
Data of the backend while nothing waits is no answer (a greeting, the rest of a page), data of the client
while something waits is the rest of a request, and data that was acknowledged is neither: it is sent
again because an ACK was lost. ``connection.asked`` is when the waiting began.

A TCP connection that is half-open waits for its SYN/ACK in the same way, unless its SYN was sent again:
then nobody knows which one was answered (Karn and Partridge, SIGCOMM 1987). All other waiting counts as
outstanding, until the answer, the end of the connection (conntrack.py), or a backend that closes without
one.
"""

from __future__ import annotations

from typing import Final

from l4lb.director.connection import Connection
from l4lb.director.parse import Packet
from l4lb.director.states import HALF_OPEN, REUSABLE
from l4lb.model import Protocol, State
from l4lb.wire import tcp, udp

_TCP: Final = Protocol.TCP
_SYN_SENT: Final = State.SYN_SENT
_BACKEND_FIN: Final = State.BACKEND_FIN


def from_backend(connection: Connection, packet: Packet, now: float) -> None:
    """Learn from a packet of the backend, before it is tracked: it may be answer and end in one."""
    if connection.asked is None:
        return
    if in_handshake(connection):
        if packet.flags & tcp.SYN:
            connection.path.handshakes.took(now - connection.asked)
            connection.asked = None
    elif not packet.flags & tcp.SYN and _has_new_data(packet, connection.acked_by_client):
        answered(connection, now)
    elif packet.flags & tcp.FIN:
        release(connection)


def from_client(connection: Connection, packet: Packet, now: float, *, new: bool) -> None:
    """Learn from a packet of the client that has been tracked: it may end the handshake and ask in one.
    ``new``: the connection begins with it."""
    if in_handshake(connection):
        if packet.flags & tcp.SYN:
            connection.path.retransmissions += not new and connection.state is _SYN_SENT
            connection.asked = now if new else None
        return
    if connection.state is _BACKEND_FIN:
        return  # what it has closed it does not answer on
    idle = connection.asked is None and connection.state not in REUSABLE
    if idle and _has_new_data(packet, connection.acked_by_backend):
        wait(connection, now)


def in_handshake(connection: Connection) -> bool:
    """True while a TCP connection is half-open, and what it waits for is not an answer."""
    return connection.path.protocol is _TCP and connection.state in HALF_OPEN


def wait(connection: Connection, now: float) -> None:
    """A request begins."""
    connection.asked = now
    path = connection.path
    path.outstanding += 1
    path.asked += now


def answered(connection: Connection, now: float) -> None:
    """Its answer begins."""
    assert connection.asked is not None
    connection.path.responses.took(now - connection.asked)
    release(connection)


def release(connection: Connection) -> None:
    """A request, if one waits, waits no more."""
    asked, connection.asked = connection.asked, None
    if asked is not None:
        path = connection.path
        path.outstanding -= 1
        # With none left the sum is 0, however often it was rounded.
        path.asked = path.asked - asked if path.outstanding else 0.0


def _has_new_data(packet: Packet, acknowledged: int | None) -> bool:
    if packet.protocol == udp.PROTOCOL:
        return True
    if not packet.payload:
        return False
    end = packet.sequence + packet.payload
    return acknowledged is None or 0 < (end - acknowledged) & 0xFFFF_FFFF < 0x8000_0000
