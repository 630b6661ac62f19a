"""The daemon on a real gateway: alone in its namespace, through crashes and reloads, gone after a stop."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

import l4lb
from l4lb.privileges import DAEMON
from netlab.daemon import L4LB
from tests.lab.clients import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.datapath("raw", "tc")]

DEADLINE = 30.0
"""Seconds that anything expected may take."""

CONFIG = """\
[[services]]
name = "web"
address = "10.1.0.100:80"
when_backend_down = "reset"

[services.health]
interval = 0.2
timeout = 0.2

[[services.backends]]
address = "10.2.0.11:80"

[[services.backends]]
address = "10.2.0.12:80"

[[services]]
name = "web6"
address = "[2001:db8:1::100]:80"
nat = "full"

[[services.backends]]
address = "[2001:db8:2::13]:80"
"""

VIP, VIP6 = "http://10.1.0.100/", "http://[2001:db8:1::100]/"


@pytest.fixture
def daemon(lab):
    """It is running; whatever a test leaves of it is removed."""
    daemon = lab.daemon(CONFIG)
    try:
        with daemon:
            yield daemon
    finally:
        daemon.cli("stop")


def status(daemon):
    return json.loads(daemon.cli("status", "--json").stdout)


def backend(daemon, address):
    backends = json.loads(daemon.cli("backend", "list", "--json").stdout)["backends"]
    return next(each for each in backends if each["address"] == address)


def answers(lab, url=VIP):
    return lab.exec("client", "curl", "-sg", "--max-time", "2", url, check=False).returncode == 0


def host(lab):
    """What l4lb could leave on the gateway: addresses, nftables, traffic control."""
    state = {
        what: lab.exec("gateway", *command.split()).stdout
        for what, command in {
            "addresses": "ip -brief address",
            "nftables": "nft list ruleset",
            "qdiscs": "tc qdisc show",
        }.items()
    }
    state["filters"] = "".join(
        lab.exec("gateway", "tc", "filter", "show", "dev", name, direction).stdout
        for name in ("eth0", "eth1")
        for direction in ("ingress", "egress")
    )
    return state


def files(daemon):
    return {path.name for path in daemon.socket.parent.iterdir() if path.name.startswith("l4lb.")}


@pytest.mark.datapath("raw", "tc", "xdp")
def test_it_balances_and_says_on_what(lab, daemon):
    assert {lab.curl(VIP) for _ in range(4)} == {"web1\n", "web2\n"}
    assert lab.curl(VIP6) == "web3\n"
    now = status(daemon)
    assert now["pid"] == daemon.pid
    assert now["warnings"] == []
    assert now["vips"] == [
        {"address": "10.1.0.100", "interface": "eth0", "ours": True},
        {"address": "2001:db8:1::100", "interface": "eth0", "ours": True},
    ]


@pytest.mark.datapath("raw", "tc", "xdp")
def test_outside_its_unit_it_keeps_no_more_than_that_gives(daemon):
    """In none of its threads, and while it works: probes, plans and looks at the tables included."""
    assert daemon.cli("connection", "list").returncode == 0
    kept = {
        tuple(
            re.search(rf"^{field}:\t(\w+)$", task.read_text(), re.MULTILINE)[1]
            for field in ("CapPrm", "CapEff", "CapInh", "NoNewPrivs")
        )
        for task in Path(f"/proc/{daemon.pid}/task").glob("*/status")
    }
    four = f"{sum(1 << each for each in DAEMON):016x}"
    assert kept == {(four, four, "0" * 16, "1")}


@pytest.mark.datapath("raw")
def test_after_an_upgrade_in_place_no_new_packet_process_is_started_by_the_old_daemon(
    lab, tmp_path, monkeypatch
):
    installed = tmp_path / "l4lb"
    shutil.copytree(Path(l4lb.__file__).parent, installed)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with lab.daemon(CONFIG) as daemon:
        (installed / "datapath" / "raw" / "worker.py").write_text("raise SystemExit('of another l4lb')")
        os.kill(int(status(daemon)["datapath"]["details"]["packet process"]), signal.SIGKILL)
        assert daemon.wait(DEADLINE) == 1
        last = daemon.log.read_text().splitlines()[-1]
        assert last.startswith("l4lb: another l4lb was installed since this daemon began, ")
        monkeypatch.delenv("PYTHONPATH")
        daemon.start()
        wait_for("an answer", lambda: answers(lab), DEADLINE)


@pytest.mark.datapath("raw")
def test_a_second_daemon_in_the_namespace_is_refused_and_the_first_goes_on(lab, daemon):
    second = lab.exec(
        "gateway",
        L4LB,
        "-c",
        daemon.config,
        "--socket",
        daemon.socket.with_name("b.sock"),
        "run",
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr == (
        "l4lb: another l4lb daemon is running in this network namespace "
        f"(process {daemon.pid}): stop it first\n"
    )
    assert lab.curl(VIP) in ("web1\n", "web2\n")


@pytest.mark.datapath("raw")
def test_a_second_daemon_on_the_socket_is_refused_though_its_namespace_is_another(lab, daemon):
    second = lab.exec("web3", L4LB, "-c", daemon.config, "--socket", daemon.socket, "run", check=False)
    assert second.returncode == 1
    assert second.stderr.startswith(f"l4lb: another l4lb daemon answers on {daemon.socket}: ")
    assert answers(lab)


def test_stop_leaves_nothing(lab):
    before = host(lab)
    daemon = lab.daemon(CONFIG)
    with daemon:
        lab.curl(VIP)
        assert host(lab) != before
        assert daemon.cli("stop").stdout == "stopped\n"
        assert host(lab) == before
        assert files(daemon) == {"l4lb.toml", "l4lb.log"}


def test_what_a_killed_daemon_left_is_removed_by_stop(lab):
    before = host(lab)
    daemon = lab.daemon(CONFIG)
    with daemon:
        lab.curl(VIP)
        daemon.kill()
        assert host(lab) != before
        for kept in (".drains", ".down"):
            daemon.socket.with_suffix(kept).touch()
        said = daemon.cli("stop").stdout
        assert "VIP 10.1.0.100" in said
        assert "VIP 2001:db8:1::100" in said
        assert str(daemon.socket) in said
        assert host(lab) == before
    assert files(daemon) == {"l4lb.toml", "l4lb.log"}
    assert "nothing was left" in daemon.cli("stop").stdout


def test_a_killed_daemon_starts_again_over_what_it_left(lab, daemon):
    daemon.kill()
    daemon.start()
    assert answers(lab)
    assert all(vip["ours"] for vip in status(daemon)["vips"])


@pytest.mark.datapath("raw")
def test_a_packet_process_that_is_killed_is_replaced(lab, daemon):
    first = status(daemon)["datapath"]["details"]["packet process"]
    os.kill(int(first), signal.SIGKILL)
    wait_for(
        "another packet process",
        lambda: status(daemon)["datapath"]["details"].get("packet process", first) != first,
        DEADLINE,
    )
    assert answers(lab)
    assert answers(lab, VIP6)
    assert "the datapath died" in daemon.log.read_text()


@pytest.mark.datapath("raw")
def test_a_bad_file_is_refused_and_traffic_goes_on(lab, daemon):
    lines = len(daemon.log.read_text().splitlines())
    daemon.config.write_text(CONFIG.replace("10.2.0.11", "10.2.0.300"))
    daemon.reload()
    wait_for("the log", lambda: "not reloaded" in daemon.log.read_text(), DEADLINE)
    said = "\n".join(daemon.log.read_text().splitlines()[lines:])
    assert re.search(
        r"l4lb.toml:11:1: services\[web\].backends\[0\].address: '10.2.0.300' is not an IP", said
    )
    assert {lab.curl(VIP) for _ in range(4)} == {"web1\n", "web2\n"}


def test_a_reload_takes_the_file(lab, daemon):
    daemon.configure(CONFIG.replace("10.2.0.11", "10.2.0.13"))
    assert daemon.cli("reload").stdout.splitlines() == [
        "service web: backend 10.2.0.11:80 removed",
        "service web: backend 10.2.0.13:80 added (weight 1)",
    ]
    assert {lab.curl(VIP) for _ in range(4)} == {"web2\n", "web3\n"}


@pytest.mark.datapath("raw")
def test_a_backend_that_fails_gets_no_traffic_until_it_is_back(lab, daemon):
    wait_for("web2 to be up", lambda: backend(daemon, "10.2.0.12:80")["state"] == "up", DEADLINE)
    lab.stop("web2")
    try:
        wait_for("web2 to be down", lambda: backend(daemon, "10.2.0.12:80")["state"] == "down", DEADLINE)
        assert backend(daemon, "10.2.0.12:80")["reason"] == "connection refused"
        assert {lab.curl(VIP) for _ in range(4)} == {"web1\n"}
        assert re.search(
            r"backend web 10\.2\.0\.12:80 is down: connection refused; no check has passed for \d+\.\d s "
            r"\(held \d+ connections?\)",
            daemon.log.read_text(),
        )
    finally:
        lab.start("web2")
    wait_for("web2 to be up", lambda: backend(daemon, "10.2.0.12:80")["state"] == "up", DEADLINE)
    daemon.cli("reload")  # what is listed is in place a moment later, and when this answers
    assert {lab.curl(VIP) for _ in range(4)} == {"web1\n", "web2\n"}


@pytest.mark.datapath("raw")
def test_an_interface_that_goes_down_and_up_is_used_again(lab, daemon):
    # By itself the kernel drops IPv6 addresses, and with them the route, when a link goes down.
    lab.exec("gateway", "sysctl", "-qw", "net.ipv6.conf.eth1.keep_addr_on_down=1")
    lab.exec("gateway", "ip", "link", "set", "eth1", "down")
    try:
        wait_for(
            "the warning",
            lambda: any(" no route: " in line for line in status(daemon)["warnings"]),
            DEADLINE,
        )
    finally:
        lab.exec("gateway", "ip", "link", "set", "eth1", "up")
    wait_for("an answer", lambda: answers(lab), DEADLINE)
    wait_for("no warning", lambda: status(daemon)["warnings"] == [], DEADLINE)
