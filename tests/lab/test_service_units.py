"""The units as a real systemd runs them, installed by 'l4lb install-service', on a gateway of the lab."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from l4lb.privileges import Capability
from netlab.daemon import L4LB
from tests.lab import booted
from tests.lab.clients import Download, answers, wait_for
from tests.lab.services import BACKENDS, VIP, backend, service

pytestmark = [pytest.mark.lab, pytest.mark.datapath("raw", "tc", "xdp")]

UNIT, AGENT = "l4lb.service", "l4lb-agent.service"
CONFIG = "/etc/l4lb/l4lb.toml"
NAMES = list(BACKENDS[4])
SIZE = 64 << 20  # of a transfer that is under way for some 10 s
WATCHDOG = 4  # seconds, instead of the unit's 90
REPOSITORY = Path(__file__).resolve().parents[2]

# PrivateTmp= would hide a repository that is in /tmp.
HERE = f"[Service]\nBindReadOnlyPaths={REPOSITORY}\n"


@pytest.fixture(scope="module")
def host(lab):
    """A gateway with systemd and our unit on it, which is not started."""
    if reason := booted.why_not():
        pytest.skip(f"no systemd to boot: {reason}")
    try:
        with booted.Booted(lab, "gateway") as host:
            host.exec(L4LB, "install-service")
            drop_in(host, UNIT, "test", HERE)
            yield host
    except booted.CannotBoot as error:
        pytest.skip(f"systemd does not boot here: {error}")


@pytest.fixture
def impatient(host):
    """A manager that soon takes one for dead."""
    drop_in(host, UNIT, "watchdog", f"[Service]\nWatchdogSec={WATCHDOG}\n")
    yield
    without(host, UNIT, "watchdog")


@pytest.fixture
def gateway(lab, host):
    """It serves, and nothing is left of it afterwards."""
    put(host, lab.config(service()))
    host.exec("systemctl", "start", UNIT)
    yield host
    host.exec("systemctl", "stop", UNIT)
    host.exec(L4LB, "stop")


@pytest.fixture
def download(lab, gateway):
    """Bytes that go through the gateway, all of which must arrive."""
    wanted = lab.publish("slow", SIZE)
    with Download(lab, VIP, "slow") as download:
        yield download
        download.finish()
    assert download.digest == wanted


def put(host, text):
    host.path(CONFIG).write_text(text)


def drop_in(host, unit, name, text):
    directory = host.path(f"/etc/systemd/system/{unit}.d")
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.conf").write_text(text)
    host.exec("systemctl", "daemon-reload")


def without(host, unit, name):
    host.path(f"/etc/systemd/system/{unit}.d/{name}.conf").unlink()
    host.exec("systemctl", "daemon-reload")


def status(host):
    return json.loads(host.exec(L4LB, "status", "--json").stdout)


def capabilities(host, pid, which):
    mask = int(host.status_of(pid)[which], 16)
    return {each.name for each in Capability if mask >> each & 1}, mask.bit_count()


def restarted(host, since):
    """Wait until it serves as another process than ``since``."""

    def ready():
        return host.property(UNIT, "SubState") == "running" and host.main_pid(UNIT) not in (0, since)

    wait_for("a restart", ready, 30)


def test_it_serves_with_no_more_than_its_unit_gives(lab, gateway):
    assert answers(lab, VIP, 3) == dict.fromkeys(NAMES, 1)
    assert status(gateway)["datapath"]["name"] == lab.datapath
    assert status(gateway)["warnings"] == []
    pid = gateway.main_pid(UNIT)
    said = gateway.status_of(pid)
    for which in ("CapBnd", "CapEff"):
        assert capabilities(gateway, pid, which) == ({"NET_ADMIN", "NET_RAW", "BPF", "PERFMON"}, 4)
    assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")
    assert gateway.journal(UNIT, "-p", "warning", f"_PID={pid}") == []
    assert gateway.exec("nsenter", "-t", str(pid), "-m", "touch", "/usr/x", check=False).returncode != 0


@pytest.mark.datapath("raw")
def test_the_packet_process_keeps_two_capabilities(gateway):
    pid = int(status(gateway)["datapath"]["details"]["packet process"])
    assert capabilities(gateway, pid, "CapPrm") == ({"NET_ADMIN", "NET_RAW"}, 2)


def test_a_restart_cuts_no_flow(gateway, download):
    first = gateway.main_pid(UNIT)
    gateway.exec("systemctl", "restart", UNIT)
    assert gateway.main_pid(UNIT) != first
    download.progress()


@pytest.mark.datapath("raw", "tc")
def test_one_that_is_killed_is_started_again_and_cuts_no_flow(gateway, download):
    first = gateway.main_pid(UNIT)
    gateway.exec("kill", "-KILL", str(first))
    restarted(gateway, first)
    download.progress()


@pytest.mark.datapath("raw", "tc")
def test_one_that_hangs_is_replaced_and_cuts_no_flow(impatient, gateway, download):
    first = gateway.main_pid(UNIT)
    gateway.exec("kill", "-STOP", str(first))
    restarted(gateway, first)
    download.progress()
    (line,) = (line for line in gateway.journal(UNIT) if "Watchdog timeout" in line)
    assert line.startswith("l4lb.service: Watchdog timeout")
    assert "Fatal Python error: Aborted" in gateway.journal(UNIT)  # and where it was
    second = gateway.main_pid(UNIT)
    wait_for("signs of life", lambda: signs(gateway) > 2 * WATCHDOG, 3 * WATCHDOG + 5)
    assert gateway.main_pid(UNIT) == second


def signs(host):
    """Seconds from the start to the last sign of life."""
    last, begun = (
        int(host.property(UNIT, name))
        for name in ("WatchdogTimestampMonotonic", "ExecMainStartTimestampMonotonic")
    )
    return (last - begun) / 1e6


@pytest.mark.datapath("tc")
def test_a_reload_takes_the_config_or_fails_with_its_errors(lab, gateway):
    pid = gateway.main_pid(UNIT)
    put(gateway, lab.config(service(weights={"web2": 1})))
    gateway.exec("systemctl", "reload", UNIT)
    assert answers(lab, VIP, 3) == {"web2": 3}
    put(gateway, lab.config(service(weights={"web3": 1}).replace("10.2.0.13", "10.2.0.300")))
    assert gateway.exec("systemctl", "reload", UNIT, check=False).returncode == 1
    errors = gateway.journal(UNIT, "-p", "err")
    assert any(
        re.search(r"l4lb.toml:\d+:1: .*'10\.2\.0\.300' is not an IP address", line) for line in errors
    )
    assert (gateway.main_pid(UNIT), gateway.property(UNIT, "ActiveState")) == (pid, "active")
    assert answers(lab, VIP, 3) == {"web2": 3}


@pytest.mark.datapath("tc")
def test_commands_edit_the_config(lab, gateway):
    gateway.exec(L4LB, "backend", "drain", "web", backend("web1"))
    assert answers(lab, VIP, 4) == {"web2": 2, "web3": 2}
    assert "weight = 0" in gateway.path(CONFIG).read_text()


@pytest.mark.datapath("tc")
def test_without_any_service_it_runs_and_waits_for_one(host):
    host.path(CONFIG).unlink()
    assert f"{CONFIG} installed" in host.exec(L4LB, "install-service").stdout
    host.exec("systemctl", "start", UNIT)
    assert status(host)["services"] == 0
    host.exec(L4LB, "service", "add", "web", f"{VIP}:80", "--backend", backend("web1"))
    assert status(host)["services"] == 1
    host.exec("systemctl", "stop", UNIT)
    host.exec(L4LB, "stop")


@pytest.mark.datapath("tc")
def test_a_unit_without_a_capability_says_so_in_one_line(lab, host):
    put(host, service())
    for missing, line in (
        ("CAP_NET_ADMIN", "l4lb: CAP_NET_ADMIN is missing: "),
        ("CAP_BPF CAP_PERFMON", "datapath tc cannot run here: CAP_BPF and CAP_PERFMON are missing: "),
    ):
        drop_in(host, UNIT, "less", f"[Service]\nRestart=no\nCapabilityBoundingSet=~{missing}\n")
        before = len(host.journal(UNIT, "-p", "warning"))
        started = host.exec("systemctl", "start", UNIT, check=False).returncode == 0
        assert started == ("BPF" in missing)  # auto does without
        told = [said for said in host.journal(UNIT, "-p", "warning")[before:] if "missing" in said]
        assert [said[: len(line)] for said in told] == [line]
        if started:
            assert status(host)["datapath"]["name"] == "raw"
            assert answers(lab, VIP, 3) == dict.fromkeys(NAMES, 1)
        host.exec("systemctl", "stop", UNIT)
        host.exec("systemctl", "reset-failed", UNIT, check=False)
        without(host, UNIT, "less")
    host.exec(L4LB, "stop")


@pytest.mark.datapath("tc")
def test_the_agent_has_a_user_of_its_own_and_no_capabilities(host):
    host.exec(L4LB, "install-service", "--agent")
    drop_in(host, AGENT, "test", HERE)
    key = host.path("/etc/l4lb/agents.key")
    key.write_text("5a" * 32)
    key.chmod(0o600)
    os.chown(key, 0, 0)
    host.path("/etc/l4lb/agent.env").write_text(
        'L4LB_AGENT_OPTIONS="--listen 10.2.0.1:7077 --interval 0.2"\n'
    )
    host.exec("systemctl", "start", AGENT)
    said = host.status_of(host.main_pid(AGENT))
    assert said["Uid"].split()[0] not in ("0", "65534")
    assert (said["CapPrm"], said["CapBnd"], said["NoNewPrivs"], said["Seccomp"]) == (
        "0" * 16,
        "0" * 16,
        "1",
        "2",
    )
    asked = ("10.2.0.1:7077", "--kind", "agent", "--key", "/etc/l4lb/agents.key", "--count", "2")
    last = host.exec(L4LB, "probe", *asked, "--json").stdout
    said = json.loads(last)["probes"][-1]["said"]
    assert re.fullmatch(r"up ready, cpu \d+%, memory \d+%, queue \d+%, load .+", said)
    assert host.journal(AGENT, "-p", "warning") == []
    removed = host.exec(L4LB, "install-service", "--agent", "--remove").stdout
    assert "/etc/l4lb/agent.env stays: it was changed" in removed
    assert not host.path(f"/etc/systemd/system/{AGENT}").exists()


@pytest.mark.datapath("raw", "tc")
def test_it_is_there_after_a_boot_and_gone_after_its_removal(lab, host):
    """Enabled and started; a config that was never touched goes with it."""
    before = [lab.exec("gateway", *command.split()).stdout for command in TRACES]
    host.path(CONFIG).unlink()
    host.exec(L4LB, "install-service", "--now")
    assert host.exec("systemctl", "is-enabled", UNIT).stdout == "enabled\n"
    assert host.exec("systemctl", "is-active", UNIT).stdout == "active\n"
    said = host.exec(L4LB, "install-service", "--remove").stdout
    assert f"{UNIT} stopped and disabled\n" in said
    assert f"{CONFIG} removed\n" in said
    assert [lab.exec("gateway", *command.split()).stdout for command in TRACES] == before
    for path in ("/etc/systemd/system/l4lb.service", CONFIG, "/var/lib/l4lb", "/sys/fs/bpf/l4lb"):
        assert not host.path(path).exists(), path
    host.exec(L4LB, "install-service")  # for others


TRACES = ("ip -brief address", "nft list ruleset", "tc qdisc show")
