"""Clients are remembered, for so long and only so many."""

from dataclasses import replace

import pytest

from l4lb.director.affinity import Affinity, Clients
from l4lb.director.connection import Path
from l4lb.model import BackendPlan, Endpoint, Nat, Protocol

VIP = Endpoint.parse("192.0.2.1:80")
A, B = bytes([203, 0, 113, 1]), bytes([203, 0, 113, 2])


@pytest.fixture
def clients():
    return Clients(limit=3, newcomers=3)


def affinity_of(clients, timeout=100.0, port=80):
    return Affinity(timeout, clients, replace(VIP, port=port), Protocol.TCP)


@pytest.fixture
def affinity(clients):
    return affinity_of(clients)


@pytest.fixture(params=["begin", "establish"])
def remember(request, affinity):
    """Newcomers and regular clients alike."""
    return getattr(affinity, request.param)


def path(usable=True):
    made = Path("web", VIP, Protocol.TCP, Nat.DESTINATION, BackendPlan(Endpoint.parse("10.0.0.1:80")))
    made.usable = usable
    return made


def test_a_client_is_found_until_its_time_is_over(clients, affinity, remember):
    web1 = path()
    remember(A, web1, 0.0)
    assert affinity.find(A, 99.9) is web1
    assert affinity.find(B, 0.0) is None
    assert affinity.find(A, 100.0) is None
    assert len(clients) == 0


def test_each_connection_begins_the_time_anew(affinity, remember):
    remember(A, path(), 0.0)
    affinity.begin(A, web2 := path(), 60.0)
    assert affinity.find(A, 159.9) is web2


def test_looking_does_not(affinity, remember):
    remember(A, path(), 0.0)
    affinity.find(A, 60.0)
    assert affinity.find(A, 100.0) is None


def test_what_is_recalled_is_what_would_be_found_and_nothing_is_forgotten(affinity, remember):
    web1 = path()
    remember(A, web1, 0.0)
    assert affinity.recall(A, 60.0) == (web1, 40.0)
    assert affinity.recall(B, 60.0) is None
    assert affinity.recall(A, 100.0) is None
    web1.usable = False
    assert affinity.recall(A, 60.0) is None
    web1.usable = True
    assert affinity.recall(A, 60.0) == (web1, 40.0)


def test_a_path_that_takes_no_new_connections_is_forgotten(affinity, remember):
    web1 = path()
    remember(A, web1, 0.0)
    web1.usable = False
    assert affinity.find(A, 1.0) is None
    web1.usable = True
    assert affinity.find(A, 1.0) is None, "it was scheduled elsewhere meanwhile"


def test_the_one_not_heard_of_for_longest_is_forgotten_first(affinity, remember):
    web1 = path()
    clients = [bytes([10, 0, 0, last]) for last in range(4)]
    for client in clients[:3]:
        remember(client, web1, 0.0)
    remember(clients[0], web1, 1.0)
    remember(clients[3], web1, 2.0)
    assert [client for client in clients if affinity.find(client, 2.0)] == [clients[i] for i in (0, 2, 3)]


def test_a_lower_limit_holds_from_the_next_client_on(clients, affinity, remember):
    for last in range(3):
        remember(bytes([10, 0, 0, last]), path(), 0.0)
    clients.limit = clients.newcomers = 1
    remember(A, path(), 1.0)
    assert len(clients) == 1
    assert affinity.find(A, 1.0)


def test_expired_ones_go_without_being_asked_for(clients, affinity, remember):
    remember(A, path(), 0.0)
    remember(B, path(), 150.0)
    assert len(clients) == 1


def test_a_limit_of_one_holds_one(clients, affinity, remember):
    clients.limit = clients.newcomers = 1
    for last in range(5):
        remember(bytes([10, 0, 0, last]), path(), 0.0)
        assert len(clients) == 1


def test_newcomers_take_no_regular_clients_place(clients, affinity):
    web1, web2 = path(), path()
    affinity.establish(A, web1, 0.0)
    for last in range(10):
        affinity.begin(bytes([10, 0, 0, last]), web2, 1.0)
    assert affinity.find(A, 1.0) is web1
    assert len(clients) == 1 + 3


def test_a_newcomer_becomes_a_regular_client(clients, affinity):
    web1 = path()
    affinity.begin(A, web1, 0.0)
    affinity.establish(A, web1, 1.0)
    assert len(clients) == 1
    for last in range(3):
        affinity.begin(bytes([10, 0, 0, last]), web1, 2.0)
    assert affinity.find(A, 2.0) is web1


def test_a_regular_client_that_goes_elsewhere_stays_one(clients, affinity):
    web2 = path()
    affinity.establish(A, path(), 0.0)
    affinity.begin(A, web2, 50.0)
    assert affinity.find(A, 149.0) is web2
    assert [client for client, *_ in clients.remembered(50.0)] == [A]


def test_who_was_forgotten_as_a_newcomer_is_remembered_by_what_was_established(affinity):
    web1 = path()
    affinity.begin(A, web1, 0.0)
    for last in range(3):
        affinity.begin(bytes([10, 0, 0, last]), web1, 1.0)
    assert affinity.find(A, 1.0) is None
    affinity.establish(A, web1, 2.0)
    assert affinity.find(A, 101.0) is web1


@pytest.mark.parametrize("known", ["begin", "establish"])
def test_an_older_connection_that_is_established_later_changes_nothing(clients, affinity, known):
    """Its backend may be drained by now; the client's last connection went elsewhere."""
    drained, web2 = path(usable=False), path()
    getattr(affinity, known)(A, web2, 1.0)
    affinity.establish(A, drained, 2.0)
    assert affinity.find(A, 101.0) is web2
    assert len(clients) == 1
    affinity.establish(A, web1 := path(), 200.0)  # what was remembered has expired
    assert affinity.find(A, 200.0) is web1


def test_newcomers_come_before_regular_clients(clients, affinity):
    """So that of those who read one after the other, newcomers go where there is no room for all."""
    affinity.establish(A, path(), 0.0)
    affinity.begin(B, path(), 1.0)
    assert [client for client, *_ in clients.remembered(1.0)] == [B, A]


def test_services_share_the_room_and_nothing_else(clients, affinity, remember):
    web1, web2 = path(), path()
    other = affinity_of(clients, port=81)
    remember(A, web1, 0.0)
    assert other.find(A, 0.0) is None
    add = other.begin if remember == affinity.begin else other.establish
    add(A, web2, 0.0)
    assert (affinity.find(A, 0.0), other.find(A, 0.0)) == (web1, web2)
    for last in range(2):
        add(bytes([10, 0, 0, last]), web2, 1.0)
    assert (affinity.find(A, 1.0), other.find(A, 1.0)) == (None, web2)
    assert len(clients) == 3


def test_each_service_has_its_own_timeout(clients, affinity):
    short = affinity_of(clients, timeout=10.0, port=81)
    affinity.establish(A, web1 := path(), 0.0)
    short.establish(B, path(), 0.0)
    assert short.find(B, 9.9)
    assert short.find(B, 10.0) is None
    assert affinity.find(A, 99.9) is web1
