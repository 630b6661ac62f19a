"""What an operator changes while traffic flows: weights, backends, services, the file, the VIPs."""

from contextlib import ExitStack

import pytest

from netlab.servers import UDP_ECHO_PORT
from tests.lab.clients import Browser, Download, answers, ask, connect, datagrams, wait_for
from tests.lab.services import BACKENDS, VIP, VIP6, backend, listed, service

pytestmark = pytest.mark.lab

NAMES = list(BACKENDS[4])
CLIENTS = [f"10.1.0.{number}" for number in range(10, 18)]


def addresses(lab):
    """Those that are on the gateway's interfaces now."""
    lines = lab.exec("gateway", "ip", "-o", "address", "show", "scope", "global").stdout.splitlines()
    return {line.split()[3].partition("/")[0] for line in lines}


def closed_by_peer(browser):
    """Whether the connection was reset; waits for it."""
    with pytest.raises(ConnectionResetError):
        browser.socket.recv(1)
    return True


@pytest.fixture
def web(lab):
    with lab.daemon("# Ours, do not touch.\n" + service()) as daemon:
        yield daemon


def test_a_drained_backend_finishes_what_it_has_and_gets_nothing_new(lab, web):
    with Browser(lab, VIP) as kept:
        name = kept.get()
        said = web.cli("backend", "drain", "web", backend(name)).stdout
        assert said == f"web: draining {backend(name)}, 1 connection left\n"
        assert listed(web, "state")[name] == "drain"
        assert name not in answers(lab, VIP, 12)
        assert kept.get() == name
        web.cli("backend", "enable", "web", backend(name))
        assert listed(web, "state")[name] == "up"
        assert answers(lab, VIP, 12)[name] == 4
        assert kept.get() == name


def test_a_new_weight_holds_for_the_next_connection(lab, web):
    web.cli("backend", "weight", "web", backend("web3"), "4")
    assert answers(lab, VIP, 12) == {"web1": 2, "web2": 2, "web3": 8}


def test_a_removed_backends_connections_are_reset_and_no_others(lab, web):
    with ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, VIP)) for _ in range(3)]
        names = [browser.get() for browser in kept]
        assert sorted(names) == NAMES
        web.cli("backend", "remove", "web", backend("web2"))
        for name, browser in zip(names, kept, strict=True):
            assert closed_by_peer(browser) if name == "web2" else browser.get() == name
    assert answers(lab, VIP, 10) == {"web1": 5, "web3": 5}


def test_an_added_backend_serves(lab):
    with lab.daemon(service(weights={"web1": 1})) as daemon:
        assert answers(lab, VIP, 4) == {"web1": 4}
        daemon.cli("backend", "add", "web", backend("web2"), "--weight", "3")
        assert answers(lab, VIP, 8) == {"web1": 2, "web2": 6}


@pytest.mark.datapath("raw")
def test_an_edit_goes_to_the_file_with_its_comments_kept_and_a_runtime_one_does_not(lab, web):
    before = web.config.read_text()
    web.cli("backend", "weight", "web", backend("web1"), "3", "--runtime")
    assert web.config.read_text() == before
    assert answers(lab, VIP, 10) == {"web1": 6, "web2": 2, "web3": 2}
    web.cli("backend", "weight", "web", backend("web2"), "6")
    after = web.config.read_text()
    assert "# Ours, do not touch.\n" in after
    assert after == before.replace(
        f'address = "{backend("web2")}"\nweight = 1', f'address = "{backend("web2")}"\nweight = 6'
    )
    web.cli("reload")  # ends what was done with --runtime
    assert answers(lab, VIP, 8) == {"web1": 1, "web2": 6, "web3": 1}


def test_flushed_connections_are_reset(lab, web):
    with Browser(lab, VIP) as mine, Browser(lab, VIP, source=CLIENTS[1]) as other:
        mine.get()
        name = other.get()
        assert web.cli("connection", "flush", "--client", CLIENTS[0]).stdout == "flushed 1 connection\n"
        assert closed_by_peer(mine)
        assert other.get() == name
        shown = web.api.get("connections")["connections"]
        assert [(one["client"].partition(":")[0], one["state"]) for one in shown] == [
            (CLIENTS[1], "established")
        ]


def test_a_reload_under_traffic_keeps_connections(lab, web):
    digest = lab.publish("held", 48 << 20)
    with Download(lab, VIP, "held") as download, Browser(lab, VIP) as kept:
        name = kept.get()
        web.configure(
            service("other", port=81, backend_port=80)
            + service("web", weights={"web3": 5, "web2": 5, "web1": 7})
        )
        web.reload()
        wait_for("the reload", lambda: web.api.get("status")["services"] == 2)
        download.progress()
        assert kept.get() == name
        download.finish()
    assert download.digest == digest
    assert answers(lab, VIP, 17) == {"web1": 7, "web2": 5, "web3": 5}
    assert ask(lab, VIP, port=81) in NAMES


@pytest.mark.datapath("raw")
def test_a_bad_file_is_refused_whole_and_nothing_changes(lab, web):
    good = web.config.read_text()
    with Browser(lab, VIP) as kept:
        name = kept.get()
        web.config.write_text(good.replace("weight = 1", "weight = -1") + service("web", vip="10.1.0.300"))
        refused = web.cli("reload", check=False)
        assert refused.returncode == 1
        assert refused.stderr.count(": -1 is too small: at least 0") == 3
        assert "'10.1.0.300' is not an IP address" in refused.stderr
        web.reload()
        wait_for("the log", lambda: "not reloaded: the config has errors" in web.log.read_text())
        assert kept.get() == name
        assert answers(lab, VIP, 9) == dict.fromkeys(NAMES, 3)


@pytest.mark.datapath("raw", "tc")
def test_vips_come_and_go_with_their_services(lab, web):
    before = addresses(lab)
    assert VIP in before
    assert VIP6 not in before
    with Browser(lab, VIP) as kept:
        kept.get()
        targets = [("--backend", backend(name, 6)) for name in NAMES]
        web.cli("service", "add", "web6", f"[{VIP6}]:80", "--check", "none", *sum(targets, ()))
        assert addresses(lab) == before | {VIP6}
        assert answers(lab, VIP6, 6) == dict.fromkeys(NAMES, 2)
        web.cli("service", "add", "second", f"{VIP}:81", "--check", "none", "--backend", backend("web1"))
        assert ask(lab, VIP, port=81) == "web1"
        web.cli("service", "remove", "web")
        assert closed_by_peer(kept)
        with pytest.raises(ConnectionRefusedError):
            connect(lab, VIP)
        assert addresses(lab) == before | {VIP6}  # another service has the VIP
        web.cli("service", "remove", "second")
        web.cli("service", "remove", "web6")
    assert addresses(lab) == before - {VIP}


@pytest.mark.datapath("raw")
def test_vips_that_are_not_ours_to_manage_are_left_alone(lab):
    with lab.daemon("[gateway]\nmanage_vips = false\n" + service()):
        assert VIP not in addresses(lab)
        lab.exec("gateway", "ip", "address", "add", f"{VIP}/32", "dev", "eth0")
        try:
            assert ask(lab, VIP) in NAMES
        finally:
            lab.exec("gateway", "ip", "address", "delete", f"{VIP}/32", "dev", "eth0")


@pytest.mark.datapath("raw")
@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_a_client_that_knew_another_owner_of_the_vip_is_told(lab, vip):
    """As after a failover: its neighbour entry still has the old gateway's link-layer address."""
    old = "02:00:00:00:00:99"
    lab.exec("client", "ip", "neigh", "replace", vip, "lladdr", old, "dev", "eth0", "nud", "stale")
    with lab.daemon(service(vip=vip)):
        wait_for(
            "the client to learn",
            lambda: old not in lab.exec("client", "ip", "neigh", "show", vip).stdout,
        )
        assert ask(lab, vip) in NAMES


def test_a_change_to_udp_backends_is_followed_by_the_next_client(lab):
    config = service("echo", port=UDP_ECHO_PORT, protocol="udp", weights={"web1": 1})
    with lab.daemon(config) as daemon, datagrams(lab, VIP, UDP_ECHO_PORT) as old:
        old.send(b"1")
        assert old.recv(100) == b"web1 1"
        daemon.cli("backend", "add", "echo", backend("web2", port=UDP_ECHO_PORT))
        daemon.cli("backend", "drain", "echo", backend("web1", port=UDP_ECHO_PORT))
        old.send(b"2")
        assert old.recv(100) == b"web1 2"
        with datagrams(lab, VIP, UDP_ECHO_PORT) as new:
            new.send(b"3")
            assert new.recv(100) == b"web2 3"
        daemon.cli("backend", "remove", "echo", backend("web1", port=UDP_ECHO_PORT))
        old.send(b"4")
        assert old.recv(100) == b"web2 4"


def test_least_connection_sends_newcomers_where_connections_have_ended(lab):
    with lab.daemon(service(scheduler="least_connection")) as daemon, ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, VIP)) for _ in range(9)]
        names = [browser.get() for browser in kept]
        assert sorted(names) == sorted(NAMES * 3)
        for name, browser in zip(names, kept, strict=True):
            if name == "web2":
                browser.connection.close()
        wait_for("web2 to be idle", lambda: listed(daemon, "established")["web2"] == 0)
        newcomers = [stack.enter_context(Browser(lab, VIP)) for _ in range(3)]
        assert [browser.get() for browser in newcomers] == ["web2"] * 3


def test_source_hash_moves_only_the_clients_of_a_backend_that_leaves(lab):
    with lab.daemon(service(scheduler="source_hash")) as daemon:
        before = {client: ask(lab, VIP, source=client) for client in CLIENTS}
        left = before[CLIENTS[0]]
        daemon.cli("backend", "drain", "web", backend(left))
        after = {client: ask(lab, VIP, source=client) for client in CLIENTS}
    moved = {client for client in CLIENTS if before[client] != after[client]}
    assert moved == {client for client in CLIENTS if before[client] == left}


def test_affinity_with_a_drained_backend_moves_once(lab):
    with lab.daemon(service(affinity="client")) as daemon:
        first = ask(lab, VIP)
        daemon.cli("backend", "drain", "web", backend(first))
        second = ask(lab, VIP)
        assert second != first
        daemon.cli("backend", "enable", "web", backend(first))
        assert answers(lab, VIP, 5) == {second: 5}
