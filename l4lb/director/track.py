"""Step 4, track: what a packet means for its connection. The table itself is in conntrack.py."""

from __future__ import annotations

from typing import Final

from l4lb.director.connection import BACKEND_SHIFT, LARGEST_SHIFT, SHIFT_MASK, Connection
from l4lb.director.conntrack import ConnectionTable
from l4lb.director.measure import in_handshake
from l4lb.director.parse import Packet
from l4lb.director.states import (
    ACK,
    FIN,
    HALF_OPEN,
    REUSABLE,
    RST,
    SYN,
    SYN_ACK,
    advance,
    advance_udp,
    ends_handshake,
    event_of,
    in_window,
)
from l4lb.model import State
from l4lb.wire import tcp

_SYN_RECEIVED: Final = State.SYN_RECEIVED
_UDP_NEW: Final = State.UDP_NEW


def track(
    table: ConnectionTable,
    frame: bytearray,
    packet: Packet,
    connection: Connection,
    from_client: bool,
    now: float,
) -> bool:
    """Follow a connection with one of its packets, not yet translated.

    False if that would make it established and the table has no room for one more.
    """
    connection.seen = now
    if packet.protocol == tcp.PROTOCOL:
        return _track_tcp(table, frame, packet, connection, from_client)
    if connection.state is _UDP_NEW and from_client:
        table.goes_on(connection, now)
    state = advance_udp(connection.state, from_client)
    return state is connection.state or table.set_state(connection, state)


def begins_again(connection: Connection) -> bool:
    """True if the next SYN of its client, or of UDP its next datagram, begins a new connection: this one is
    over, or its backend is gone, or down and has said nothing yet."""
    unheard = in_handshake(connection) and not connection.path.alive
    return unheard or connection.path.gone or connection.state in REUSABLE


def _track_tcp(
    table: ConnectionTable, frame: bytearray, packet: Packet, connection: Connection, from_client: bool
) -> bool:
    event = event_of(packet.flags)
    if event is RST or event is FIN:
        expected = connection.acked_by_backend if from_client else connection.acked_by_client
        shift = connection.shifts >> BACKEND_SHIFT if from_client else connection.shifts & SHIFT_MASK
        # A FIN comes behind its segment's data, of which some may have been acknowledged already.
        sequence = packet.sequence if event is RST else packet.sequence + packet.payload
        if not in_window(sequence, expected, shift):
            return True  # its receiver will not believe it either
        if event is RST and sequence != expected is not None and connection not in table.half_open:
            table.doubt(connection)
            return True
        # After both have closed a healthy backend resets too, if what the client sent last was not read.
        if event is RST and not from_client and connection.state not in REUSABLE:
            connection.path.resets += 1
    elif event is not ACK and connection.state in HALF_OPEN:
        scale = _window_scale(frame, packet)
        if from_client:
            connection.shifts = connection.shifts & ~SHIFT_MASK | (scale or 0)
        elif scale is None:
            connection.shifts = 0  # what one end offers alone does not hold (RFC 7323 1.3)
        else:
            connection.shifts = connection.shifts & SHIFT_MASK | scale << BACKEND_SHIFT
        if event is SYN_ACK and not from_client:
            # The last one counts: a backend that has forgotten its first answer, or keeps none (SYN
            # cookies), may choose another number for the next.
            connection.acked_by_client = (packet.sequence + 1) & 0xFFFF_FFFF
    elif event is SYN and from_client and connection.state not in REUSABLE:
        behind = (packet.sequence + 1) & 0xFFFF_FFFF
        # Not the first one once more. A live backend refuses it, and the client's next segment says what it
        # waits for.
        if behind and behind != connection.acked_by_backend:
            connection.acked_by_client = None
            connection.syn = behind
    elif event is SYN_ACK and not from_client and _is_begun_anew(connection, packet):
        table.begin_anew(connection)
        scale = _window_scale(frame, packet)
        connection.shifts = 0 if scale is None else LARGEST_SHIFT | scale << BACKEND_SHIFT
        connection.acked_by_client = (packet.sequence + 1) & 0xFFFF_FFFF
        connection.acked_by_backend = packet.acknowledgement
        return True
    if connection.state is _SYN_RECEIVED and from_client and event in (ACK, FIN):
        expected = connection.acked_by_client
        if expected is not None and not ends_handshake(packet.acknowledgement, expected):
            return True  # forged: the backend will reset it
    if packet.flags & tcp.ACK and event is not RST:
        if from_client:
            connection.acked_by_client = packet.acknowledgement
        else:
            connection.acked_by_backend = packet.acknowledgement
    state = advance(connection.state, event, from_client)
    return state is connection.state or table.set_state(connection, state)


def _is_begun_anew(connection: Connection, packet: Packet) -> bool:
    """True for a SYN/ACK that answers the SYN which the client has just sent on a connection that was not
    over yet: the backend had lost it, and both ends have another one by now. Any other SYN/ACK is late
    (nf_conntrack_proto_tcp.c, where it acknowledges a SYN that was ignored)."""
    answers = connection.acked_by_client is None and connection.syn == packet.acknowledgement != 0
    return answers and connection.state not in REUSABLE


def _window_scale(frame: bytearray, packet: Packet) -> int | None:
    return tcp.window_scale(frame, packet.transport + tcp.MINIMUM, packet.end - packet.payload)
