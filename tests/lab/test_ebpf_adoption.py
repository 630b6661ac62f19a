"""The eBPF datapaths without their daemon: packets go on while it is stopped, killed, and started again."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import socket
import subprocess
from contextlib import ExitStack

import pytest

from l4lb.datapath.ebpf.pins import namespace_directory
from l4lb.datapath.libbpf import Link
from netlab.command import inside
from tests.lab import hooks_shown
from tests.lab.clients import (
    Browser,
    Download,
    Upload,
    answers,
    ask,
    begin_connecting,
    connected,
    on,
    wait_for,
)
from tests.lab.lab import Lab
from tests.lab.services import BACKENDS, CHECKED, VIP, VIP6, listed, service

pytestmark = [pytest.mark.lab, pytest.mark.datapath("tc", "xdp")]

SIZE = 24 << 20
MISSING = "TC sends for XDP here: no GRO at the other end ('ethtool -K DEVICE gro on' there)"
TCX_INGRESS = 46  # enum bpf_attach_type


def pins(lab):
    """All that is pinned of the gateway's namespace."""
    with on(lab, "gateway"):
        directory = namespace_directory()
    return {path for path in directory.rglob("*") if not path.is_dir()}


def programs(lab):
    """How many programs are on the gateway's interfaces, as the kernel tells."""

    def run(*argv):
        return lab.exec("gateway", *argv).stdout

    with on(lab, "gateway"):
        interfaces = dict(socket.if_nameindex())
        at_tcx = sum(map(_programs_at_tcx, interfaces))
    filters = hooks_shown.filters(run, interfaces.values())  # not raw's shield, which has no name
    return len(hooks_shown.with_xdp(run)) + len(filters) + at_tcx


def _programs_at_tcx(index):
    count = ctypes.c_uint32(8)
    query = ctypes.CDLL("libbpf.so.1").bpf_prog_query
    assert query(index, TCX_INGRESS, 0, None, (ctypes.c_uint32 * 8)(), ctypes.byref(count)) == 0
    return count.value


def status(daemon):
    return daemon.api.get("status")["datapath"]


def test_it_balances_and_says_how(lab):
    with lab.daemon(service() + service("six", vip=VIP6)) as daemon:
        assert answers(lab, VIP, 6) == dict.fromkeys(BACKENDS[4], 2)
        assert answers(lab, VIP6, 6) == dict.fromkeys(BACKENDS[6], 2)
        assert listed(daemon, "connections_total") == dict.fromkeys(BACKENDS[4], 2)
        now = status(daemon)
        assert now["capabilities"]["survives_daemon"]
        hooks = {"tc": ["tcx"], "xdp": ["xdp-native", "tcx", MISSING]}
        assert now["details"]["interface eth0"].split(", ") == hooks[lab.datapath]


def test_transfers_go_on_while_the_daemon_is_stopped(lab):
    published = lab.publish("held", SIZE)
    with lab.daemon(service()) as daemon, Download(lab, VIP, "held") as download:
        daemon.stop()
        download.progress()
        assert ask(lab, VIP) in BACKENDS[4]  # a new connection, too
        download.finish()
        assert download.digest == published
        daemon.start()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_another_daemon_takes_over_all_connections(lab, end):
    lab.publish("held", SIZE)
    config = service() + service("full", port=81, backend_port=80, nat="full")
    with lab.daemon(config) as daemon, ExitStack() as stack:
        browsers = [
            stack.enter_context(Browser(lab, VIP, port=port)) for port in (80, 81) for _ in range(20)
        ]
        names = [browser.get() for browser in browsers]
        upload = stack.enter_context(Upload(lab, VIP, "held"))
        before = daemon.api.get("connections", limit="1000")["connections"]
        getattr(daemon, end)()
        daemon.start()
        assert "established connections taken over" in daemon.log.read_text()
        after = daemon.api.get("connections", limit="1000")["connections"]
        ends = [
            {(each["client"], each["source"], each["backend"]) for each in one} for one in (before, after)
        ]
        assert ends[0] == ends[1]
        assert [browser.get() for browser in browsers] == names
        upload.finish()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_interface_that_is_down_keeps_its_programs_through_a_restart(lab, end):
    """By the routes it leads nowhere then."""
    lab.exec("gateway", "sysctl", "-qw", "net.ipv6.conf.eth1.keep_addr_on_down=1")
    with lab.daemon(service()) as daemon:
        there, hooks = programs(lab), status(daemon)["details"]["interface eth1"]
        lab.exec("gateway", "ip", "link", "set", "eth1", "down")
        try:
            getattr(daemon, end)()
            daemon.start()
            assert (programs(lab), status(daemon)["details"].get("interface eth1")) == (there, hooks)
        finally:
            lab.exec("gateway", "ip", "link", "set", "eth1", "up")
        with begin_connecting(lab, VIP) as client:  # it sends its SYN again
            assert connected(client)


def test_a_killed_daemon_under_traffic_again_and_again(lab):
    published = lab.publish("held", SIZE)
    with lab.daemon(service()) as daemon, ExitStack() as stack:
        downloads = [stack.enter_context(Download(lab, VIP, "held")) for _ in range(10)]
        for _ in range(3):
            daemon.kill()
            daemon.start()
            for download in downloads:
                download.progress(100_000)
        for download in downloads:
            download.finish()
            assert download.digest == published


def test_a_backend_removed_while_the_daemon_was_away_loses_its_connections(lab):
    with lab.daemon(service()) as daemon, ExitStack() as stack:
        browsers = [stack.enter_context(Browser(lab, VIP)) for _ in range(6)]
        names = [browser.get() for browser in browsers]
        daemon.kill()
        daemon.configure(service(weights={"web1": 1, "web2": 1}))
        daemon.start()
        for browser, name in zip(browsers, names, strict=True):
            if name == "web3":
                browser.socket.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    browser.socket.recv(1)
            else:
                assert browser.get() == name


def test_idle_connections_of_a_backend_that_goes_down_are_reset(lab):
    with lab.daemon(service(health=CHECKED)) as daemon, ExitStack() as stack:
        browsers = [stack.enter_context(Browser(lab, VIP)) for _ in range(6)]
        names = [browser.get() for browser in browsers]
        unhealthy = lab.host_directory("web3") / "unhealthy"
        unhealthy.touch()
        try:
            wait_for("web3 down", lambda: listed(daemon, "state")["web3"] == "down")
            for browser, name in zip(browsers, names, strict=True):
                if name == "web3":
                    browser.socket.settimeout(5)
                    with pytest.raises(ConnectionResetError):
                        browser.socket.recv(1)
                else:
                    assert browser.get() == name
        finally:
            unhealthy.unlink()


def test_a_flush_resets_both_ends(lab):
    with (
        lab.daemon(service()) as daemon,
        Browser(lab, VIP) as browser,
        Browser(lab, VIP) as other,
    ):
        browser.get(), other.get()
        assert daemon.cli("connection", "flush", "--all").returncode == 0
        browser.socket.settimeout(5)
        with pytest.raises(ConnectionResetError):
            browser.socket.recv(1)
        assert daemon.api.get("connections", limit="10")["connections"] == []


def test_stop_leaves_nothing(lab):
    with lab.daemon(service()) as daemon:
        assert programs(lab)
        assert pins(lab)
        assert daemon.cli("stop").stdout == "stopped\n"
        # The kernel lets go of a link a moment after its last user.
        wait_for("the programs to go", lambda: programs(lab) == 0)
        assert pins(lab) == set()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_goes_on_without_a_daemon_is_removed_by_stop(lab, end):
    with lab.daemon(service()) as daemon:
        getattr(daemon, end)()
        assert programs(lab)
        assert ask(lab, VIP) in BACKENDS[4]
        said = daemon.cli("stop").stdout
        assert "the eBPF programs and maps" in said
        assert f"VIP {VIP}" in said
        wait_for("the programs to go", lambda: programs(lab) == 0)
        assert pins(lab) == set()


@pytest.mark.datapath("tc")
def test_raw_takes_over_from_ebpf_and_the_other_way_round(lab):
    raw = '[gateway]\ndatapath = "raw"\n' + service()
    with lab.daemon(service()) as daemon:
        for config, name in ((raw, "raw"), (lab.config(service()), "ebpf")):
            daemon.stop()
            daemon.config.write_text(config)
            daemon.start()
            assert bool(programs(lab)) == (name == "ebpf")
            shielded = "l4lb" in lab.exec("gateway", "nft", "list", "ruleset").stdout
            assert shielded == (name == "raw")
            assert ask(lab, VIP) in BACKENDS[4]


@pytest.mark.datapath("tc")
def test_raw_that_cannot_start_leaves_them_and_the_vip(lab):
    raw = '[gateway]\ndatapath = "raw"\n' + service()
    with lab.daemon(service()) as daemon, Browser(lab, VIP) as kept:
        name = kept.get()
        daemon.stop()
        daemon.config.write_text(raw)
        lab.exec("gateway", "tc", "qdisc", "add", "dev", "eth1", "ingress")
        try:
            with pytest.raises(AssertionError, match="eth1 has an ingress qdisc"):
                daemon.start()
        finally:
            lab.exec("gateway", "tc", "qdisc", "delete", "dev", "eth1", "ingress")
        assert kept.get() == name
        assert ask(lab, VIP) in BACKENDS[4]
        assert "l4lb" not in lab.exec("gateway", "nft", "list", "ruleset").stdout
        daemon.start()
        assert ask(lab, VIP) in BACKENDS[4]


def test_programs_that_somebody_removed_come_back(lab):
    with lab.daemon(service()) as daemon:
        for pin in sorted(pins(lab)):
            if pin.name.startswith(("tcx-", "xdp-")):
                pin.unlink()
        wait_for("the programs", lambda: "they are attached again" in daemon.log.read_text())
        assert programs(lab)
        assert ask(lab, VIP) in BACKENDS[4]
        # One, or more if it looked while they were being removed.
        warnings = [line for line in daemon.log.read_text().splitlines() if " warning " in line]
        assert [
            line for line in warnings if "attached again" not in line and "without XDP" not in line
        ] == []


@pytest.mark.datapath("tc")
def test_pins_that_somebody_removed_come_back_with_the_connections(lab):
    with lab.daemon(service()) as daemon, Browser(lab, VIP) as kept:
        name = kept.get()
        before = pins(lab)
        (directory,) = {pin.parents[2] for pin in before if pin.parent.name == "links"}
        shutil.rmtree(directory)
        wait_for("the pins", lambda: pins(lab) == before)
        daemon.kill()
        assert kept.get() == name
        daemon.start()
        assert "1 established connections taken over" in daemon.log.read_text()
        assert kept.get() == name
        assert daemon.log.read_text().count(" they are there again") == 1


def test_rules_that_somebody_has_flushed_are_none_of_its(lab):
    published = lab.publish("held", SIZE)
    with lab.daemon(service()) as daemon, Download(lab, VIP, "held") as download:
        lab.exec("gateway", "nft", "flush", "ruleset")
        for change in ("add", "delete"):
            lab.exec("gateway", "tc", "qdisc", change, "dev", "eth1", "clsact")
        download.progress()
        assert ask(lab, VIP) in BACKENDS[4]
        download.finish()
        assert download.digest == published
        assert " warning " not in daemon.log.read_text()


def test_an_interface_that_comes_back_is_taken_again(lab):
    with lab.daemon(service()) as daemon:
        # By itself the kernel drops IPv6 addresses when a link goes down.
        lab.exec("gateway", "sysctl", "-qw", "net.ipv6.conf.eth1.keep_addr_on_down=1")
        lab.exec("gateway", "ip", "link", "set", "eth1", "down")
        lab.exec("gateway", "ip", "link", "set", "eth1", "up")
        wait_for("an answer", lambda: daemon and _answers(lab))


def _answers(lab):
    done = lab.exec("client", "curl", "-s", "--max-time", "1", f"http://{VIP}/", check=False)
    return done.returncode == 0


@pytest.fixture
def gro(lab):
    """The switches' ends of the gateway's cables take frames of native XDP."""
    ports = [f"gateway-{card}" for card in ("eth0", "eth1")]
    for state in ("on", "off"):
        for port in ports:
            subprocess.run(inside(f"{lab.prefix}-net", "ethtool", "-K", port, "gro", state), check=True)
        if state == "on":
            yield


def test_transfers_where_xdp_can_send(lab, gro):
    published = lab.publish("held", SIZE)
    with lab.daemon(service() + service("six", vip=VIP6)) as daemon, ExitStack() as stack:
        assert MISSING not in status(daemon)["details"]["interface eth0"]
        assert answers(lab, VIP, 6) == dict.fromkeys(BACKENDS[4], 2)
        downloads = [stack.enter_context(Download(lab, vip, "held")) for vip in (VIP, VIP6)]
        uploads = [stack.enter_context(Upload(lab, vip, "held")) for vip in (VIP, VIP6)]
        for download in downloads:
            download.finish()
            assert download.digest == published
        for upload in uploads:
            upload.finish()


@pytest.mark.datapath("tc")
def test_a_lab_that_goes_down_leaves_no_pins(lab):
    other = Lab("x", datapath=lab.datapath)
    try:
        other.up()
        daemon = other.daemon(service())
        daemon.start()
        (directory,) = {pin.parents[2] for pin in pins(other) if pin.parent.name == "links"}
        daemon.kill()
    finally:
        other.down()
    assert not directory.exists()


@pytest.mark.datapath("tc")
def test_pins_of_a_namespace_that_is_gone_are_removed_by_the_next_daemon(lab):
    other = Lab("x", datapath=lab.datapath)
    try:
        other.up()
        daemon = other.daemon(service())
        daemon.start()
        links = [pin for pin in pins(other) if pin.parent.name == "links"]
        directory = links[0].parents[2]
        with lab.daemon(service()) as living:
            daemon.kill()
            living.stop()
            living.start()
            assert directory.exists()
            subprocess.run(["ip", "netns", "delete", other.namespace("gateway")], check=True)
            wait_for("the kernel to remove it", lambda: not any(map(interface_of, links)))
            living.stop()
            living.start()
            assert not directory.exists()  # any daemon on this machine may have been the one
    finally:
        other.down()


def interface_of(pin):
    """The index of the interface that a pinned link attaches to, 0 once that is gone."""
    with contextlib.closing(Link.from_pin(pin)) as link:
        return link.info().ifindex


@pytest.mark.datapath("tc")
def test_maps_of_another_layout_are_left_behind_and_it_says_so(lab):
    with lab.daemon(service()) as daemon:
        daemon.stop()
        (directory,) = {pin.parents[1] for pin in pins(lab) if pin.parent.name == "links"}
        other = directory.with_name("layout-0")
        subprocess.run(["mv", directory, other], check=True)
        daemon.start()
        assert "starting anew" in daemon.log.read_text()
        assert not other.exists()
        assert ask(lab, VIP) in BACKENDS[4]


@pytest.mark.datapath("tc")
def test_a_reload_signal_keeps_connections(lab):
    with lab.daemon(service(weights={"web1": 1})) as daemon, Browser(lab, VIP) as browser:
        assert browser.get() == "web1"
        daemon.configure(service(weights={"web1": 1, "web2": 1}))
        assert daemon.cli("reload").returncode == 0
        assert browser.get() == "web1"
        assert {ask(lab, VIP) for _ in range(4)} == {"web1", "web2"}
