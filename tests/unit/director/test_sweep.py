"""Connections whose backend has gone are looked for in steps, to the end."""

from dataclasses import replace

import pytest

from l4lb.director import sweep
from l4lb.director.states import REUSABLE
from l4lb.model import BackendPlan, State, WhenBackendDown
from tests.unit.director.gateway import BACKEND, CLIENT, OTHER, Gateway, service
from tests.unit.director.packets import ACK, FIN, RST


def with_backend(alive, other=True, **words):
    backends = (BackendPlan(BACKEND, alive=alive), BackendPlan(OTHER, alive=other))
    return replace(service(BACKEND, OTHER, **words), backends=backends)


@pytest.fixture
def gateway(monkeypatch):
    monkeypatch.setattr(sweep, "_LOOKS", 4)
    monkeypatch.setattr(sweep, "_RESETS", 2)
    gateway = Gateway(service(BACKEND, OTHER))
    for number in range(20):
        gateway.open(replace(CLIENT, port=1000 + number))
    return gateway


def ticks_until_gone(gateway, limit):
    """Ticks until the connections with BACKEND are gone."""
    for tick in range(limit):
        if not any(connection.path.gone for connection in gateway.director.table):
            return tick
        gateway.director.tick(gateway.now)
    raise AssertionError("connections of a backend that has gone are still there")


def test_a_few_in_each_step(gateway):
    gateway.configure(with_backend(alive=False))
    assert ticks_until_gone(gateway, 20) >= 5
    assert len(gateway.director.table) == 10


def test_another_backend_that_comes_and_goes_does_not_keep_it_from_its_end(gateway):
    gateway.configure(with_backend(alive=False))
    for step in range(60):
        gateway.configure(with_backend(alive=False, other=bool(step % 2)))
        gateway.director.tick(gateway.now)
    gateway.configure(with_backend(alive=False))
    assert not any(c.path.address == BACKEND for c in gateway.director.table)


def test_told_to_reset_only_after_it_went_down(gateway):
    gateway.configure(with_backend(alive=False, when_backend_down=WhenBackendDown.KEEP))
    gateway.director.tick(gateway.now)
    assert len(gateway.director.table) == 20
    gateway.configure(with_backend(alive=False))
    ticks_until_gone(gateway, 20)
    assert len(gateway.director.table) == 10


def close(gateway, client):
    """Open a connection, and let both ends close it."""
    ours, theirs = gateway.open(client)
    gateway.forwarded(replace(ours, flags=FIN | ACK))
    ours = replace(ours, sequence=ours.sequence + 1, acknowledgement=theirs.sequence + 1)
    gateway.forwarded(replace(theirs, flags=FIN | ACK, acknowledgement=ours.sequence))
    gateway.forwarded(ours)
    assert gateway.connection(ours).state is State.TIME_WAIT


def test_those_that_are_over_are_forgotten_without_an_rst_and_keep_no_live_one_waiting():
    gateway = Gateway(service(BACKEND))
    for number in range(1000):
        close(gateway, replace(CLIENT, port=1000 + number))
    gateway.open()
    gateway.configure(service(BACKEND, down=[BACKEND]))
    gateway.tick()
    assert [(seen.flags, CLIENT in (seen.source, seen.destination)) for _, seen in gateway.seen] == [
        (RST, True),
        (RST, True),
    ]
    assert len(gateway.director.table) == 0


def test_forgetting_is_done_in_steps_too(monkeypatch):
    monkeypatch.setattr(sweep, "_FORGOTTEN", 3)
    gateway = Gateway(service(BACKEND))
    for number in range(10):
        close(gateway, replace(CLIENT, port=1000 + number))
    gateway.configure(service(BACKEND, down=[BACKEND]))
    gateway.tick()
    assert len(gateway.director.table) == 7


@pytest.mark.parametrize("state", State)
def test_who_is_told_of_a_flush(state):
    """By ``l4lb connection flush``, which resets whatever it finds."""
    gateway = Gateway(service(BACKEND))
    gateway.open()
    gateway.director.out.clear()
    gateway.connection().state = state
    gateway.director.reset(gateway.connection())
    assert len(gateway.seen) == (0 if state in REUSABLE else 2)
