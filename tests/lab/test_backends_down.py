"""Backends that go down and come back: what clients see, and what the operator is told."""

import re
import time
from contextlib import ExitStack, contextmanager

import pytest

from netlab.servers import UDP_ECHO_PORT
from tests.lab.clients import (
    Browser,
    Download,
    answers,
    begin_connecting,
    connect,
    connected,
    datagrams,
    wait_for,
)
from tests.lab.nft import nft_table
from tests.lab.services import BACKENDS, CHECKED, VIP, VIP6, backend, listed, service

pytestmark = pytest.mark.lab

NAMES = list(BACKENDS[4])
VIPS = [pytest.param(VIP, id="IPv4"), pytest.param(VIP6, id="IPv6")]
QUICK = 1.0  # seconds: at once, and not by a timeout of TCP


@contextmanager
def unhealthy(lab, daemon, *names):
    """These hosts say so; what serves on them goes on serving. Returns once the daemon knows."""
    switches = [lab.host_directory(name) / "unhealthy" for name in names]
    for switch in switches:
        switch.touch()
    try:
        for name in names:
            wait_state(daemon, name, "down")
        yield
    finally:
        for switch in switches:
            switch.unlink()


CUT = """
table inet cut {
    chain in { type filter hook input priority -300; drop; }
    chain out { type filter hook output priority -300; drop; }
}
"""


def silent(lab, name):
    """A host whose packets get lost, as if its cable was cut behind the switch."""
    return nft_table(lab, name, CUT)


@contextmanager
def stopped(lab, name):
    """A host without servers."""
    lab.stop(name)
    try:
        yield
    finally:
        lab.start(name)


def wait_state(daemon, name, state, service="web"):
    wait_for(f"{name} to be {state}", lambda: listed(daemon, "state", service)[name] == state)
    daemon.api.post("reload")  # answers when the datapath has all that the daemon knows


def seconds_until_reset(socket):
    began = time.monotonic()
    with pytest.raises(ConnectionResetError):
        socket.recv(1)
    return time.monotonic() - began


def connections_on(lab, name):
    """Established connections to a host's port 80, as its kernel knows them."""
    return lab.exec(name, "ss", "-Htn", "state", "established", "sport", "=", ":80").stdout.splitlines()


@pytest.fixture
def web(lab):
    with lab.daemon(service(health=CHECKED)) as daemon:
        for name in NAMES:
            wait_state(daemon, name, "up")
        yield daemon


def test_a_backend_that_stops_gets_no_new_connections_until_it_is_back(lab):
    health = 'check = "tcp"\ninterval = 0.1\nrise = 2\nfall = 2'
    with lab.daemon(service(health=health)) as daemon:
        wait_state(daemon, "web1", "up")
        with stopped(lab, "web1"):
            wait_state(daemon, "web1", "down")
            assert listed(daemon, "reason")["web1"] == "connection refused"
            assert answers(lab, VIP, 6) == {"web2": 3, "web3": 3}
            assert "connection refused" in daemon.cli("backend", "list").stdout
        wait_state(daemon, "web1", "up")
        assert answers(lab, VIP, 6) == dict.fromkeys(NAMES, 2)
        log = daemon.log.read_text()
    assert f"warning backend web {backend('web1')} is down: connection refused" in log
    assert log.count(f"info backend web {backend('web1')} is up") == 2


def test_the_list_says_why_each_backend_is_down(lab):
    health = f"{CHECKED}\nstatus = [200]"
    with lab.daemon(service(health=health)) as daemon, ExitStack() as stack:
        stack.enter_context(unhealthy(lab, daemon, "web1"))
        stack.enter_context(stopped(lab, "web2"))
        stack.enter_context(silent(lab, "web3"))
        for name, reason in (
            ("web1", "HTTP 503, expected 200"),
            ("web2", "connection refused"),
            # Of the next check, if one had connected already.
            ("web3", "timeout after 0.5 s while connecting"),
        ):
            wait_for(f"why {name} is down", lambda: listed(daemon, "reason")[name] == reason)  # noqa: B023


def up_for(daemon, name):
    """Seconds."""
    up = listed(daemon, "state")[name] == "up"
    return time.time() - listed(daemon, "since")[name] if up else 0.0


@pytest.mark.parametrize("vip", VIPS)
def test_a_backend_that_goes_down_resets_its_connections_at_both_ends(lab, vip):
    """The host goes on serving, so it is the balancer that resets."""
    with lab.daemon(service(vip=vip, health=CHECKED)) as daemon, ExitStack() as stack:
        # The first packets in a lab that is new can be lost to an address that is not resolved yet, and one
        # check that fails is enough here.
        for name in NAMES:
            wait_for(f"{name} to be up for a second", lambda: up_for(daemon, name) > 1.0)  # noqa: B023
        kept = [stack.enter_context(Browser(lab, vip)) for _ in range(6)]
        names = [browser.get() for browser in kept]
        assert sorted(names) == sorted(NAMES * 2)
        assert len(connections_on(lab, "web2")) == 2
        with unhealthy(lab, daemon, "web2"):
            for name, browser in zip(names, kept, strict=True):
                if name == "web2":
                    assert seconds_until_reset(browser.socket) < QUICK
                else:
                    assert browser.get() == name
            wait_for("web2 to be reset too", lambda: not connections_on(lab, "web2"))
        log = daemon.log.read_text()
        assert re.search(
            r"is down: HTTP 503, expected 200-399; no check has passed for \d+\.\d s "
            r"\(held 2 connections\)",
            log,
        )


def test_a_download_from_a_backend_that_goes_down_ends_quickly(lab, web):
    lab.publish("held", 64 << 20)
    with Download(lab, VIP, "held") as download:
        serving = next(name for name, count in listed(web, "established").items() if count)
        with unhealthy(lab, web, serving):
            assert isinstance(download.failure(QUICK), ConnectionResetError)


def test_a_backend_without_power_is_noticed_and_its_clients_told(lab, web):
    with ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, VIP)) for _ in range(3)]
        names = [browser.get() for browser in kept]
        with silent(lab, "web3"):
            wait_state(web, "web3", "down")
            assert seconds_until_reset(kept[names.index("web3")].socket) < QUICK
            assert answers(lab, VIP, 6) == {"web1": 3, "web2": 3}


def test_when_backend_down_keep_leaves_its_connections(lab):
    with lab.daemon(service(health=CHECKED, when_backend_down="keep")) as daemon, ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, VIP)) for _ in range(3)]
        names = [browser.get() for browser in kept]
        with unhealthy(lab, daemon, "web1"):
            assert [browser.get() for browser in kept] == names
            assert "web1" not in answers(lab, VIP, 6)


@pytest.mark.parametrize("vip", VIPS)
def test_with_all_down_tcp_is_refused_at_once(lab, vip):
    with lab.daemon(service(vip=vip, health=CHECKED)) as daemon, unhealthy(lab, daemon, *NAMES):
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            connect(lab, vip)
        assert time.monotonic() - began < QUICK
        assert daemon.api.get("status")["drops"] == {"no_backend": 1}


@pytest.mark.parametrize("vip", VIPS)
def test_with_all_down_udp_is_refused_at_once(lab, vip):
    config = service("echo", vip=vip, port=UDP_ECHO_PORT, protocol="udp", health=CHECKED)
    with lab.daemon(config) as daemon, ExitStack() as stack:
        for name in NAMES:
            (lab.host_directory(name) / "unhealthy").touch()
            stack.callback((lab.host_directory(name) / "unhealthy").unlink)
        for name in NAMES:
            wait_state(daemon, name, "down", "echo")
        with datagrams(lab, vip, UDP_ECHO_PORT) as client:
            client.send(b"?")
            with pytest.raises(ConnectionRefusedError):
                client.recv(100)


def test_when_all_down_use_all_chooses_as_if_all_were_up(lab):
    """They do not go down at the same moment, so a connection that is to stay begins afterwards."""
    with (
        lab.daemon(service(health=CHECKED, when_all_down="use_all")) as daemon,
        unhealthy(lab, daemon, *NAMES),
        Browser(lab, VIP) as kept,
    ):
        name = kept.get()
        assert answers(lab, VIP, 9) == dict.fromkeys(NAMES, 3)
        assert kept.get() == name


def test_a_service_without_backends_refuses(lab):
    with lab.daemon(service(weights={"web1": 0})), pytest.raises(ConnectionRefusedError):
        connect(lab, VIP)


def test_a_syn_to_a_dead_backend_is_rescheduled_when_sent_again(lab, web):
    """The client knows nothing of it: the kernel repeats its SYN after a second."""
    with silent(lab, "web1"), ExitStack() as stack:
        waiting = []
        for _ in range(3):
            waiting.append(stack.enter_context(begin_connecting(lab, VIP)))
        served = set()
        for client in waiting:
            assert connected(client)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            served.add(client.makefile().read().split()[-1])
        assert served == {"web2", "web3"}
        assert listed(web, "state")["web1"] == "down"
