"""The whole table of TCP states: every state, every event, from either side."""

import itertools

import pytest

from l4lb.director.states import (
    BACKEND,
    CLIENT,
    HALF_OPEN,
    REUSABLE,
    Event,
    advance,
    ends_handshake,
    event_of,
    in_window,
    timeouts_by_state,
)
from l4lb.model import State, Timeouts
from l4lb.wire import tcp

SYN_SENT, SYN_RECEIVED, ESTABLISHED = State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED
CLIENT_FIN, BACKEND_FIN, LAST_ACK = State.CLIENT_FIN, State.BACKEND_FIN, State.LAST_ACK
TIME_WAIT, CLOSED = State.TIME_WAIT, State.CLOSED

# A column for each event from each side: of the client, of the backend. None: no change.
_ = None
SR, E, CF, BF, LA, TW, C = (
    SYN_RECEIVED,
    ESTABLISHED,
    CLIENT_FIN,
    BACKEND_FIN,
    LAST_ACK,
    TIME_WAIT,
    CLOSED,
)
TABLE = {
    #              SYN    SYN/ACK   ACK      FIN      RST
    SYN_SENT:     (_, _,  _, SR,   _,  E,   _,  BF,  C, C),
    SYN_RECEIVED: (_, _,  _, _,    E,  _,   CF, BF,  C, C),
    ESTABLISHED:  (_, _,  _, _,    _,  _,   CF, BF,  C, C),
    CLIENT_FIN:   (_, _,  _, _,    _,  _,   _,  LA,  C, C),
    BACKEND_FIN:  (_, _,  _, _,    _,  _,   LA, _,   C, C),
    LAST_ACK:     (_, _,  _, _,    TW, TW,  _,  _,   C, C),
    TIME_WAIT:    (_, _,  _, _,    _,  _,   _,  _,   C, C),
    CLOSED:       (_, _,  _, _,    _,  _,   _,  _,   C, C),
}  # fmt: skip
CASES = [
    (state, event, side, expected)
    for state, row in TABLE.items()
    for (event, side), expected in zip(itertools.product(Event, (CLIENT, BACKEND)), row, strict=True)
]


@pytest.mark.parametrize(("state", "event", "side", "expected"), CASES)
def test_transition(state, event, side, expected):
    assert advance(state, event, side) is (state if expected is None else expected)


def test_the_table_above_is_whole():
    assert set(TABLE) == set(State) - {State.UDP_NEW, State.UDP_ANSWERED, State.UDP}
    assert len(CASES) == 8 * len(Event) * 2


@pytest.mark.parametrize(
    ("name", "steps", "end"),
    [
        ("handshake", "S> SA< A>", ESTABLISHED),
        ("client closes", "S> SA< A> F> A< F< A>", TIME_WAIT),
        ("backend closes", "S> SA< A> F< A> F> A<", TIME_WAIT),
        ("FIN answered by FIN", "S> SA< A> F> F< A>", TIME_WAIT),
        ("both at once", "S> SA< A> F> F< A> A<", TIME_WAIT),
        ("half closed", "S> SA< A> F> A< A< A>", CLIENT_FIN),
        ("closed at once by the client", "S> SA< F> F< A>", TIME_WAIT),
        ("refused", "S> R<", CLOSED),
        ("aborted", "S> SA< A> R>", CLOSED),
        ("SYN and SYN/ACK again", "S> S> SA< S> SA< A>", ESTABLISHED),
        ("SYN/ACK never answered", "S> SA< SA< SA<", SYN_RECEIVED),
        ("ACK of nothing", "S> A> A>", SYN_SENT),
        ("picked up", "A> A<", ESTABLISHED),
        ("picked up at its end", "F> F<", BACKEND_FIN),
        ("picked up by mistake", "A> R<", CLOSED),
        ("a client's own SYN/ACK", "S> SA> A>", SYN_SENT),
    ],
)
def test_life(name, steps, end):
    events = {"S": Event.SYN, "SA": Event.SYN_ACK, "A": Event.ACK, "F": Event.FIN, "R": Event.RST}
    state = SYN_SENT
    for step in steps.split():
        state = advance(state, events[step[:-1]], step.endswith(">"))
    assert state is end


@pytest.mark.parametrize("flags", sorted(tcp.VALID_FLAGS))
def test_events_of_valid_flags(flags):
    event = event_of(flags)
    assert (event is Event.RST) == bool(flags & tcp.RST)
    assert (event in (Event.SYN, Event.SYN_ACK)) == bool(flags & tcp.SYN)
    assert (event is Event.SYN_ACK) == (flags & (tcp.SYN | tcp.ACK) == tcp.SYN | tcp.ACK)
    assert (event is Event.FIN) == bool(flags & tcp.FIN)


def test_half_open_and_reusable_states():
    assert {SYN_SENT, SYN_RECEIVED, State.UDP_NEW, State.UDP_ANSWERED} == HALF_OPEN
    assert {LAST_ACK, TIME_WAIT, CLOSED} == REUSABLE


class TestNumbers:
    @pytest.mark.parametrize(
        ("sequence", "expected", "shift", "acceptable"),
        [
            (123, None, 0, True),
            (1000, 1000, 0, True),
            (999, 1000, 0, False),
            (1000 + 0xFFFF, 1000, 0, True),
            (1000 + 0x10000, 1000, 0, False),
            (1000 + 0x10000, 1000, 1, True),
            (1000 + (0xFFFF << 14), 1000, 14, True),
            (1000 + (0xFFFF << 14) + 1, 1000, 14, False),
            (5, 0xFFFF_FFF0, 0, True),
            (0xFFFF_FFEF, 0xFFFF_FFF0, 0, False),
            (0, 1, 14, False),
        ],
    )
    def test_in_the_window(self, sequence, expected, shift, acceptable):
        assert in_window(sequence, expected, shift) is acceptable

    @pytest.mark.parametrize(
        ("off", "ends"), [(0, True), (-1, False), (0xFFFF, True), (0x10000, False), (1 << 31, False)]
    )
    @pytest.mark.parametrize("expected", [0, 1000, 0xFFFF_FFFF])
    def test_end_of_a_handshake(self, expected, off, ends):
        assert ends_handshake((expected + off) & 0xFFFF_FFFF, expected) is ends


def test_every_state_has_its_timeout():
    timeouts = Timeouts(*(float(number) for number in range(1, 10)))
    by_state = timeouts_by_state(timeouts)
    assert [by_state[state] for state in State] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 8]


def test_idle_established_connections_are_kept_long_enough():
    """RFC 5382 REQ-5, RFC 4787 REQ-5."""
    by_state = timeouts_by_state(Timeouts())
    assert by_state[ESTABLISHED] >= 2 * 3600 + 4 * 60
    assert by_state[State.UDP] >= 120
