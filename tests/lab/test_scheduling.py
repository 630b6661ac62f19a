"""Which backend gets a connection: weights, schedulers, affinity, connections that are kept."""

import json
from collections import Counter
from contextlib import ExitStack

import pytest

from l4lb.schedulers import SCHEDULERS
from netlab.gateway import endpoint
from netlab.servers import UDP_ECHO_PORT
from tests.lab.clients import Browser, answers, ask, datagrams
from tests.lab.services import BACKENDS, VIP, VIP6, backend, listed, service

pytestmark = pytest.mark.lab


VIPS = [pytest.param(VIP, id="IPv4"), pytest.param(VIP6, id="IPv6")]
NAMES = list(BACKENDS[4])
WEIGHTS = {"web1": 2, "web2": 1, "web3": 1}
CLIENTS = {
    VIP: [f"10.1.0.{number}" for number in range(10, 18)],
    VIP6: [f"2001:db8:1::{number}" for number in range(10, 18)],
}
PORTS = {scheduler: port for port, scheduler in enumerate(SCHEDULERS, 8001)}  # of a service for each
AFFINITY = 8100


def config():
    """A service for each scheduler, and one with affinity, on both VIPs."""
    text = service("echo", port=UDP_ECHO_PORT, protocol="udp", weights=WEIGHTS)
    for vip in (VIP, VIP6):
        version = 4 if vip == VIP else 6
        same = {"vip": vip, "backend_port": 80}
        for scheduler, port in PORTS.items():
            text += service(
                f"{scheduler}{version}", port=port, scheduler=scheduler, weights=WEIGHTS, **same
            )
        text += service(f"affinity{version}", port=AFFINITY, affinity="client", **same)
    return text


def explained(daemon, client, port, name):
    """What is said of a client's next connection."""
    return json.loads(daemon.cli("explain", endpoint(client, port), name, "--json").stdout)


@pytest.fixture(scope="module")
def daemon(lab):
    with lab.daemon(config()) as daemon:
        yield daemon


@pytest.mark.parametrize("vip", VIPS)
def test_round_robin_spreads_exactly_by_weight(lab, daemon, vip):
    assert answers(lab, vip, 400, port=PORTS["round_robin"]) == {"web1": 200, "web2": 100, "web3": 100}


def test_the_daemon_counts_connections_as_the_backends_do(lab, daemon):
    before = listed(daemon, "connections_total", "random4")
    found = answers(lab, VIP, 40, port=PORTS["random"])
    after = listed(daemon, "connections_total", "random4")
    assert {name: after[name] - before[name] for name in NAMES} == {name: found[name] for name in NAMES}


def test_round_robin_does_not_send_bursts_to_the_heavy_one(lab, daemon):
    order = [ask(lab, VIP, port=PORTS["round_robin"]) for _ in range(12)]
    assert all(len(set(order[start : start + 3])) > 1 for start in range(10))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("vip", VIPS)
def test_every_scheduler_uses_all_backends(lab, daemon, scheduler, vip):
    with ExitStack() as stack:
        kept = [
            stack.enter_context(Browser(lab, vip, PORTS[scheduler], source=client))
            for client in CLIENTS[vip]
            for _ in range(8)
        ]
        assert sorted({browser.get() for browser in kept}) == NAMES


@pytest.mark.parametrize("scheduler", ["random", "maglev"])
def test_chance_and_hashes_follow_the_weights_too(lab, daemon, scheduler):
    found = answers(lab, VIP, 400, port=PORTS[scheduler])
    # Six standard deviations of 400 throws with probability 1/2 are 60, with 1/4 they are 52.
    assert abs(found["web1"] - 200) < 60
    assert abs(found["web2"] - 100) < 52
    assert abs(found["web3"] - 100) < 52


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("port", [PORTS["source_hash"], AFFINITY], ids=["source_hash", "affinity"])
def test_a_client_comes_to_the_same_backend_each_time(lab, daemon, vip, port):
    first = {client: ask(lab, vip, port=port, source=client) for client in CLIENTS[vip]}
    for client in CLIENTS[vip]:
        assert answers(lab, vip, 5, port=port, source=client) == {first[client]: 5}
    assert sorted(set(first.values())) == NAMES


@pytest.mark.parametrize("vip", VIPS)
def test_explain_knows_where_a_remembered_client_goes(lab, daemon, vip):
    version = 4 if vip == VIP else 6
    for client in CLIENTS[vip][:4]:
        served = ask(lab, vip, port=AFFINITY, source=client)
        said = explained(daemon, client, 1, f"affinity{version}")
        assert said["backend"] == backend(served, version)
        assert said["otherwise"]["backend"] is None
        assert ask(lab, vip, port=AFFINITY, source=client) == served


@pytest.mark.parametrize("vip", VIPS)
def test_explain_knows_a_connection_from_the_very_port(lab, daemon, vip):
    version = 4 if vip == VIP else 6
    with Browser(lab, vip, PORTS["round_robin"]) as browser:
        served, (client, port, *_) = browser.get(), browser.socket.getsockname()
        said = explained(daemon, client, port, f"round_robin{version}")
        assert said["backend"] == backend(served, version)
        assert browser.get() == served


def test_least_connection_fills_up_whoever_has_least_for_its_weight(lab, daemon):
    with ExitStack() as stack:
        port = PORTS["least_connection"]
        kept = [stack.enter_context(Browser(lab, VIP, port)) for _ in range(12)]
        found = Counter(browser.get() for browser in kept)
    assert found == {"web1": 6, "web2": 3, "web3": 3}


def test_a_connection_that_is_kept_stays_with_its_backend(lab, daemon):
    with ExitStack() as stack:
        port = PORTS["round_robin"]
        kept = [stack.enter_context(Browser(lab, VIP, port)) for _ in range(4)]
        rounds = [[browser.get() for browser in kept] for _ in range(20)]
    assert sorted(rounds[0]) == ["web1", "web1", "web2", "web3"]
    assert all(answer == rounds[0] for answer in rounds)


def test_udp_clients_are_spread_by_weight(lab, daemon):
    found = Counter()
    for _ in range(40):
        with datagrams(lab, VIP, UDP_ECHO_PORT) as client:
            client.send(b"")
            found[client.recv(100).decode().strip()] += 1
    # A turn that XDP gives back because TC has to send the packet may have been followed by another one's.
    inexact = 3 if lab.datapath == "xdp" else 0
    wanted = {"web1": 20, "web2": 10, "web3": 10}
    assert all(abs(found[name] - share) <= inexact for name, share in wanted.items()), found
