"""Clients are remembered, for so long and only so many."""

import pytest

from l4lb.director.affinity import Affinity
from l4lb.director.connection import Path
from l4lb.model import BackendPlan, Endpoint, Nat, Protocol

VIP = Endpoint.parse("192.0.2.1:80")
A, B = bytes([203, 0, 113, 1]), bytes([203, 0, 113, 2])


@pytest.fixture
def affinity():
    return Affinity(timeout=100.0, limit=3)


def path(usable=True):
    made = Path("web", VIP, Protocol.TCP, Nat.DESTINATION, BackendPlan(Endpoint.parse("10.0.0.1:80")))
    made.usable = usable
    return made


def test_a_client_is_found_until_its_time_is_over(affinity):
    web1 = path()
    affinity.remember(A, web1, 0.0)
    assert affinity.find(A, 99.9) is web1
    assert affinity.find(B, 0.0) is None
    assert affinity.find(A, 100.0) is None
    assert len(affinity) == 0


def test_each_connection_begins_the_time_anew(affinity):
    affinity.remember(A, path(), 0.0)
    affinity.remember(A, web2 := path(), 60.0)
    assert affinity.find(A, 159.9) is web2


def test_looking_does_not(affinity):
    affinity.remember(A, path(), 0.0)
    affinity.find(A, 60.0)
    assert affinity.find(A, 100.0) is None


def test_a_path_that_takes_no_new_connections_is_forgotten(affinity):
    web1 = path()
    affinity.remember(A, web1, 0.0)
    web1.usable = False
    assert affinity.find(A, 1.0) is None
    web1.usable = True
    assert affinity.find(A, 1.0) is None, "it was scheduled elsewhere meanwhile"


def test_the_one_not_heard_of_for_longest_is_forgotten_first(affinity):
    web1 = path()
    clients = [bytes([10, 0, 0, last]) for last in range(4)]
    for client in clients[:3]:
        affinity.remember(client, web1, 0.0)
    affinity.remember(clients[0], web1, 1.0)
    affinity.remember(clients[3], web1, 2.0)
    assert [client for client in clients if affinity.find(client, 2.0)] == [clients[i] for i in (0, 2, 3)]


def test_a_lower_limit_holds_from_the_next_client_on(affinity):
    for last in range(3):
        affinity.remember(bytes([10, 0, 0, last]), path(), 0.0)
    affinity.limit = 1
    affinity.remember(A, path(), 1.0)
    assert len(affinity) == 1
    assert affinity.find(A, 1.0)


def test_expired_ones_go_without_being_asked_for(affinity):
    affinity.remember(A, path(), 0.0)
    affinity.remember(B, path(), 150.0)
    assert len(affinity) == 1


def test_a_limit_of_one_holds_one():
    affinity = Affinity(100.0, 1)
    for last in range(5):
        affinity.remember(bytes([10, 0, 0, last]), path(), 0.0)
        assert len(affinity) == 1
