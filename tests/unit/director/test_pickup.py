"""What is picked up from the middle proves itself before it counts as established."""

from dataclasses import replace

import pytest

from l4lb.model import Endpoint, Key, Limits, State, Table, Verdict
from tests.unit.director.gateway import BACKEND, CLIENT, OTHER, VIP, Gateway, service
from tests.unit.director.packets import ACK, FIN, PSH, RST, SYN, Sent

MIDDLE = Sent(CLIENT, VIP, flags=ACK | PSH, sequence=500, acknowledgement=9000, payload=b"data")


def consistent(**words):
    return Gateway(service(BACKEND, OTHER, selection=Table(Key.FLOW, (0,))), **words)


@pytest.fixture
def gateway():
    return consistent()


def answered(gateway, flags=ACK):
    seen = gateway.forwarded(MIDDLE)
    reply = Sent(seen.destination, seen.source, flags=flags, sequence=9000, acknowledgement=504)
    gateway.forwarded(reply)
    return gateway.connection()


def test_it_is_half_open_until_the_backend_has_answered(gateway):
    gateway.forwarded(MIDDLE)
    gateway.forwarded(MIDDLE)
    connection = gateway.connection()
    assert connection.state is State.SYN_SENT
    assert connection in gateway.director.table.half_open
    assert answered(gateway).state is State.ESTABLISHED
    assert gateway.director.table.established == 1


def test_a_flood_of_forged_segments_does_not_fill_the_table():
    """They must not keep new connections out for two hours, the timeout of an established one."""
    gateway = consistent(limits=Limits(half_open=4, established=4))
    for number in range(100):
        gateway.now += 1
        source = Endpoint.parse(f"10.1.{number}.1:1")
        gateway.forwarded(replace(MIDDLE, source=source, flags=FIN | ACK if number % 2 else ACK))
    assert (len(gateway.director.table.half_open), gateway.director.table.established) == (4, 0)
    gateway.now += 1
    gateway.open()


def test_a_backend_that_does_not_know_it_ends_it(gateway):
    connection = answered(gateway, RST)
    assert connection.state is State.CLOSED
    assert gateway.director.table.established == 0


def test_from_the_backend_it_is_proven(gateway):
    """It does not answer for what it does not know."""
    gateway.forwarded(
        Sent(BACKEND, CLIENT, flags=ACK | PSH, sequence=9000, acknowledgement=500, payload=b"x")
    )
    assert gateway.connection().state is State.ESTABLISHED


def test_the_end_of_a_connection_can_be_its_first_packet(gateway):
    gateway.forwarded(replace(MIDDLE, flags=FIN | ACK))
    assert answered(gateway, FIN | ACK).state is State.BACKEND_FIN


@pytest.mark.parametrize("side", ["client", "backend"])
def test_an_rst_is_believed_as_far_as_any_window_reaches(gateway, side):
    """How far the ends scale their windows was said in a handshake that nobody remembers."""
    connection = answered(gateway)
    distance = 5_000_000
    if side == "client":
        gateway.forwarded(replace(MIDDLE, flags=RST, sequence=504 + distance))
    else:
        gateway.forwarded(Sent(BACKEND, CLIENT, flags=RST, sequence=9000 + distance))
    gateway.run_out(11.0)
    assert connection not in gateway.director.table


def test_a_challenge_ack_answers_a_syn_as_well(gateway):
    """RFC 5961 4: the client has forgotten the connection, the backend has not."""
    gateway.forwarded(Sent(CLIENT, VIP, flags=SYN, sequence=77))
    gateway.forwarded(Sent(BACKEND, CLIENT, flags=ACK, sequence=9000, acknowledgement=504))
    gateway.forwarded(Sent(CLIENT, VIP, flags=RST, sequence=504))
    assert gateway.connection().state is State.CLOSED
    assert gateway.send(Sent(CLIENT, VIP, flags=SYN, sequence=78)) is Verdict.FORWARD
    assert gateway.connection().state is State.SYN_SENT
