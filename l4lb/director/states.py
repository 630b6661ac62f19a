"""The life of a TCP connection as seen from the middle, as a table.

A gateway sees both directions but not the endpoints, so its states say what it has *seen*:

    SYN_SENT ──SYN/ACK──> SYN_RECEIVED ──ACK──> ESTABLISHED
                                                     │ FIN
                              ┌── of the client ─────┴── of the backend ──┐
                         CLIENT_FIN                                  BACKEND_FIN
                              └── FIN of the other ──> LAST_ACK <─────────┘
                                                           │ ACK
                                                       TIME_WAIT

A connection picked up from the middle begins in SYN_SENT too: only the client has been heard. An
RST with the number that is expected (the caller judges) leads to CLOSED from anywhere. What a
packet cannot change stays: the default is no transition. The rows follow RFC 9293 3.3.2 and, where
the middle sees less than an endpoint, nf_conntrack_proto_tcp.c. All that changes a state is here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from l4lb.model import State, Timeouts
from l4lb.wire import tcp


class Event(IntEnum):
    """What a segment means for the state."""

    SYN = 0
    SYN_ACK = 1
    ACK = 2
    FIN = 3
    RST = 4


SYN, SYN_ACK, ACK, FIN, RST = Event
"""For who needs them with every packet: to look a member up in an enum takes ten times as long."""


def event_of(flags: int) -> Event:
    """The event of a segment with these flags, which must be one of ``tcp.VALID_FLAGS``."""
    if flags & tcp.RST:
        return RST
    if flags & tcp.SYN:
        return SYN_ACK if flags & tcp.ACK else SYN
    if flags & tcp.FIN:
        return FIN
    return ACK


CLIENT: Final = True
BACKEND: Final = False

_S = State
_CLOSED: Final = State.CLOSED
_TRANSITIONS: Final[dict[tuple[State, Event, bool], State]] = {
    (_S.SYN_SENT, Event.SYN_ACK, BACKEND): _S.SYN_RECEIVED,
    # A backend that answers a segment with anything but an RST knows the connection already.
    (_S.SYN_SENT, Event.ACK, BACKEND): _S.ESTABLISHED,
    (_S.SYN_SENT, Event.FIN, BACKEND): _S.BACKEND_FIN,
    (_S.SYN_RECEIVED, Event.ACK, CLIENT): _S.ESTABLISHED,
    # The client may close at once: its FIN acknowledges the SYN/ACK as well.
    (_S.SYN_RECEIVED, Event.FIN, CLIENT): _S.CLIENT_FIN,
    (_S.SYN_RECEIVED, Event.FIN, BACKEND): _S.BACKEND_FIN,
    (_S.ESTABLISHED, Event.FIN, CLIENT): _S.CLIENT_FIN,
    (_S.ESTABLISHED, Event.FIN, BACKEND): _S.BACKEND_FIN,
    (_S.CLIENT_FIN, Event.FIN, BACKEND): _S.LAST_ACK,
    (_S.BACKEND_FIN, Event.FIN, CLIENT): _S.LAST_ACK,
    # With both FINs out, the first bare ACK answers the later one. In a simultaneous close one more
    # ACK is under way; TIME_WAIT lets it pass.
    (_S.LAST_ACK, Event.ACK, CLIENT): _S.TIME_WAIT,
    (_S.LAST_ACK, Event.ACK, BACKEND): _S.TIME_WAIT,
}

HALF_OPEN: Final = frozenset({State.SYN_SENT, State.SYN_RECEIVED, State.UDP_NEW, State.UDP_ANSWERED})
"""States that a flood from forged addresses can reach; they live apart and may be pushed out."""

REUSABLE: Final = frozenset({State.LAST_ACK, State.TIME_WAIT, State.CLOSED})
"""States in which a SYN on the same tuple begins a new connection (RFC 9293 3.6.1, RFC 6191)."""


def advance(state: State, event: Event, from_client: bool) -> State:
    """The state after a segment. An RST must already have been found to be the end."""
    if event is RST:
        return _CLOSED
    return _TRANSITIONS.get((state, event, from_client), state)


def advance_udp(state: State, from_client: bool) -> State:
    """The state after a datagram. One question and its answer, all that most DNS clients want, stay
    among the half-open: an answer shows only that the backend believes a source address, which may be
    forged. nf_conntrack_proto_udp.c waits for more than one answer too before it calls it a stream."""
    if state is State.UDP_NEW and not from_client:
        return State.UDP_ANSWERED
    if state is State.UDP_ANSWERED and from_client:
        return State.UDP
    return state


def in_window(sequence: int, expected: int | None, shift: int) -> bool:
    """True if an RST or a FIN with this sequence number can be meant for its receiver.

    ``expected`` is what the receiver last acknowledged (None: not seen yet), ``shift`` its window
    scale. The window is the largest the receiver can have offered; following the exact one would
    cost every established packet a store, and an endpoint checks for itself (RFC 5961 3).
    """
    return expected is None or (sequence - expected) & 0xFFFF_FFFF <= 0xFFFF << shift


def ends_handshake(acknowledgement: int, expected: int) -> bool:
    """True if an ACK can be of a client that got the backend's SYN/ACK, ``expected`` being the number
    behind it, and perhaps some data sent at once: who forged the SYN has not seen the number. It must
    be in the window of a SYN/ACK, which is never scaled."""
    return (acknowledgement - expected) & 0xFFFF_FFFF <= 0xFFFF


def timeouts_by_state(timeouts: Timeouts) -> tuple[float, ...]:
    """Idle seconds, indexed by ``State``."""
    by_state = {
        State.SYN_SENT: timeouts.syn_sent,
        State.SYN_RECEIVED: timeouts.syn_received,
        State.ESTABLISHED: timeouts.established,
        State.CLIENT_FIN: timeouts.fin_wait,
        State.BACKEND_FIN: timeouts.fin_wait,
        State.LAST_ACK: timeouts.last_ack,
        State.TIME_WAIT: timeouts.time_wait,
        State.CLOSED: timeouts.closed,
        State.UDP_NEW: timeouts.udp_new,
        State.UDP: timeouts.udp,
        State.UDP_ANSWERED: timeouts.udp_new,
    }
    return tuple(by_state[state] for state in State)
