"""Connections that are over are remembered, for stray packets, but no load on their backend."""

import pytest

from l4lb.director.connection import Path, make_connection
from l4lb.director.conntrack import ConnectionTable
from l4lb.model import BackendPlan, Endpoint, Limits, Nat, Protocol, State, Timeouts

VIP, BACKEND = Endpoint.parse("192.0.2.1:80"), Endpoint.parse("10.0.0.1:80")


@pytest.fixture
def table():
    return ConnectionTable(0.0, Timeouts(), Limits())


@pytest.fixture
def path():
    return Path("web", VIP, Protocol.TCP, Nat.DESTINATION, BackendPlan(BACKEND))


def add(table, path, state, port=40_000):
    client = Endpoint.parse(f"203.0.113.9:{port}")
    connection = make_connection(path, client, client, state, 0.0)
    table.add(connection, 0.0)
    return connection


@pytest.mark.parametrize(
    ("states", "load"),
    [
        ([State.SYN_SENT], 1),
        ([State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED], 1),
        ([State.ESTABLISHED, State.CLIENT_FIN], 1),
        ([State.ESTABLISHED, State.CLIENT_FIN, State.LAST_ACK], 0),
        ([State.ESTABLISHED, State.CLIENT_FIN, State.LAST_ACK, State.TIME_WAIT], 0),
        ([State.ESTABLISHED, State.CLOSED], 0),
        ([State.SYN_RECEIVED, State.CLOSED], 0),
        ([State.TIME_WAIT], 0),  # restored
    ],
)
def test_a_connection_is_a_load_until_both_ends_have_closed(table, path, states, load):
    connection = add(table, path, states[0])
    for state in states[1:]:
        table.set_state(connection, state)
    assert path.load == load
    table.remove(connection)
    assert (path.load, path.half_open, path.established, path.closed) == (0, 0, 0, 0)


def test_expiry_forgets_them(table, path):
    add(table, path, State.TIME_WAIT)
    add(table, path, State.ESTABLISHED, port=40_001)
    assert (path.established, path.closed, path.load) == (2, 1, 1)
    table.expire(100.0)
    assert (path.established, path.closed, path.load) == (1, 0, 1)
