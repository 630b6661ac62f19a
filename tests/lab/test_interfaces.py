"""The gateway's links, routes and neighbours change under traffic."""

import json
import select
import subprocess
from contextlib import ExitStack, contextmanager

import pytest

from netlab.command import inside as command_in
from tests.lab.clients import (
    Browser,
    Download,
    answers,
    ask,
    begin_connecting,
    connected,
    wait_for,
)
from tests.lab.services import BACKENDS, VIP, VIP6, service

pytestmark = pytest.mark.lab

NAMES = list(BACKENDS[4])
BOTH = service() + service("web6", vip=VIP6)
CARDS = {"eth0": "clients", "eth1": "backends"}
NOBODY = "10.2.0.99:80"
FORWARDING = [
    pytest.param(VIP, "net.ipv4.ip_forward", id="IPv4"),
    pytest.param(VIP6, "net.ipv6.conf.all.forwarding", id="IPv6"),
]


@contextmanager
def unplugged(lab, card):
    """The gateway loses an interface with its addresses and routes. Then another one appears that has
    its name, addresses and MAC: a new MAC would be the host's to announce, not l4lb's."""
    (link,) = json.loads(lab.exec("gateway", "ip", "-json", "link", "show", card).stdout)
    lab.exec("gateway", "ip", "link", "delete", card)
    try:
        yield
    finally:
        plug(lab, card, link["address"])


def plug(lab, card, mac):
    """The other end is in the namespace of the lab's switches, which is none of its hosts."""
    network, switch, port = CARDS[card], f"{lab.prefix}-net", f"gateway-{card}"
    interface = lab.topology.gateway.interface(network)
    subprocess.run(
        command_in(switch, "ip", "-batch", "-"),
        input=f"link add {port} type veth peer name {card} address {mac} netns {lab.namespace('gateway')}\n"
        f"link set {port} master {network} up\n",
        text=True,
        check=True,
    )
    lines = [f"link set {card} up"]
    for address in interface.addresses:
        length = lab.topology.prefix_length(network, address.version)
        lines.append(f"address add {address}/{length} dev {card}" + " nodad" * (address.version == 6))
    lab.exec("gateway", "ip", "-batch", "-", text="\n".join(lines) + "\n")


def warnings(daemon):
    return daemon.api.get("status")["warnings"]


def faults(log):
    """The lines of a daemon's log that a host which changes is no reason for."""
    signs = (" error ", "the datapath has not taken")
    return [line for line in log.splitlines() if any(sign in line for sign in signs)]


def raw(lab):
    return lab.datapath == "raw"


def find(daemon, state):
    """A backend in this state, if there is one."""
    backends = daemon.api.get("backends")["backends"]
    return next((one for one in backends if one["state"] == state), None)


def is_served(lab, vip):
    """Whether a connection gets an answer from each backend in turn."""
    try:
        return answers(lab, vip, 3) == dict.fromkeys(NAMES, 1)
    except OSError:
        return False


@pytest.mark.parametrize("named", [True, False], ids=["named in the config", "found by routes"])
@pytest.mark.parametrize("card", CARDS)
def test_an_interface_that_disappears_and_comes_back_is_used_again(lab, card, named):
    config = '[gateway]\ninterfaces = ["eth0", "eth1"]\n' * named + BOTH
    with lab.daemon(config) as daemon, ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, vip)) for vip in (VIP, VIP6)]
        names = [browser.get() for browser in kept]
        with unplugged(lab, card):
            missing = f"interface {card} does not exist now: its packets are balanced once it does"
            wait_for("a warning", lambda: missing in warnings(daemon) if named else warnings(daemon))
            said = warnings(daemon)
        for vip in (VIP, VIP6):
            wait_for(f"{vip} to be served", lambda vip=vip: is_served(lab, vip))
        assert [browser.get() for browser in kept] == names
        wait_for("no warning", lambda: warnings(daemon) == [])
        log = daemon.log.read_text()
        assert f"warning {said[0]}\n" in log
        assert f"info no longer: {said[0]}\n" in log
        assert not faults(log)


@pytest.mark.parametrize("card", CARDS)
def test_a_link_that_goes_down_and_up_fails_no_connection(lab, card):
    """New ones wait for it: the client repeats its SYN."""
    # By itself the kernel drops IPv6 addresses, and with them the route, when a link goes down.
    lab.exec("gateway", "sysctl", "-qw", f"net.ipv6.conf.{card}.keep_addr_on_down=1")
    with lab.daemon(BOTH) as daemon, ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, vip)) for vip in (VIP, VIP6)]
        names = [browser.get() for browser in kept]
        for _ in range(3):
            lab.exec("gateway", "ip", "link", "set", card, "down")
            lab.exec("gateway", "ip", "link", "set", card, "up")
            for vip in (VIP, VIP6):
                with begin_connecting(lab, vip) as client:
                    assert connected(client)
        for vip in (VIP, VIP6):
            wait_for(f"{vip} to be served", lambda vip=vip: is_served(lab, vip))
        assert [browser.get() for browser in kept] == names
        assert not faults(daemon.log.read_text())


@pytest.mark.datapath("tc", "xdp")
@pytest.mark.parametrize("card", CARDS)
def test_a_link_that_gets_another_name_fails_no_connection(lab, card):
    lab.exec("gateway", "sysctl", "-qw", f"net.ipv6.conf.{card}.keep_addr_on_down=1")
    with lab.daemon(BOTH) as daemon, ExitStack() as stack:
        kept = [stack.enter_context(Browser(lab, vip)) for vip in (VIP, VIP6)]
        names = [browser.get() for browser in kept]
        for old, new in ((card, "other"), ("other", card)) * 2:
            lines = f"link set {old} down\nlink set {old} name {new}\nlink set {new} up\n"
            lab.exec("gateway", "ip", "-batch", "-", text=lines)
            for vip in (VIP, VIP6):
                with begin_connecting(lab, vip) as client:
                    assert connected(client)
            assert [browser.get() for browser in kept] == names
        assert not faults(daemon.log.read_text())


def test_a_backend_without_a_route_is_one_clear_line_and_the_others_serve(lab):
    far = "192.0.2.7:80"
    health = 'check = "tcp"\ninterval = 0.1\nfall = 1'
    line = f"service web: backend {far} has no route: add one, or bring its interface up"
    with lab.daemon(service(weights={"web1": 1, far: 1}, health=health)) as daemon:
        assert warnings(daemon) == [line]
        assert f"warning: {line}\n" in daemon.cli("status").stdout
        down = wait_for("the check", lambda: find(daemon, "down"))
        assert (down["address"], down["reason"]) == (far, "network is unreachable")
        daemon.api.post("reload")  # answers when the datapath has all that the daemon knows
        assert answers(lab, VIP, 5) == {"web1": 5}
        lab.exec("gateway", "ip", "route", "add", "192.0.2.0/24", "via", BACKENDS[4]["web2"])
        try:
            wait_for("no warning", lambda: not warnings(daemon))
        finally:
            lab.exec("gateway", "ip", "route", "delete", "192.0.2.0/24")
        wait_for("the warning", lambda: warnings(daemon) == [line])
        log = daemon.log.read_text()
    assert log.count(f" warning {line}\n") == 2
    assert log.count(f" no longer: {line}\n") == 1


def test_traffic_does_not_notice_that_neighbours_are_forgotten(lab):
    digest = lab.publish("held", 16 << 20)
    with (
        lab.daemon(BOTH) as daemon,
        Download(lab, VIP, "held") as download,
        Download(lab, VIP6, "held") as download6,
    ):
        for _ in range(3):
            lab.exec("gateway", "ip", "neigh", "flush", "all")
            assert answers(lab, VIP, 3) == dict.fromkeys(NAMES, 1)
            assert answers(lab, VIP6, 3) == dict.fromkeys(NAMES, 1)
        for each in (download, download6):
            each.progress()
            each.finish()
            assert each.digest == digest
        assert "neighbour_unreachable" not in daemon.api.get("status")["drops"]


def test_what_is_sent_to_a_neighbour_that_sleeps_arrives_when_it_wakes(lab):
    with lab.daemon(service(weights={"web2": 1})) as daemon:
        lab.exec("web2", "ip", "link", "set", "eth0", "arp", "off")
        try:
            lab.exec("gateway", "ip", "neigh", "flush", "all")
            with begin_connecting(lab, VIP) as client:
                wait_for("the SYN", lambda: daemon.api.get("status")["connections"]["half_open"] == 1)
                lab.exec("web2", "ip", "link", "set", "eth0", "arp", "on")
                assert connected(client)
        finally:
            lab.exec("web2", "ip", "link", "set", "eth0", "arp", "on")


def test_a_neighbour_that_does_not_exist_holds_up_nobody_else(lab):
    with lab.daemon(service(weights={"web1": 1, NOBODY: 1})), ExitStack() as stack:
        clients = [stack.enter_context(begin_connecting(lab, VIP)) for _ in range(20)]
        wait_for("half of them", lambda: len(select.select([], clients, [], 0)[1]) == 10)


@pytest.mark.datapath("raw")
def test_packets_for_a_neighbour_that_does_not_exist_are_counted(lab):
    """For the eBPF datapaths it is the kernel that waits for neighbours, and drops."""
    with lab.daemon(service(weights={NOBODY: 1})) as daemon, begin_connecting(lab, VIP):
        wait_for("the drop", lambda: daemon.api.get("status")["drops"].get("neighbour_unreachable"))


@pytest.mark.parametrize(("vip", "sysctl"), FORWARDING)
def test_without_forwarding_a_line_says_what_does_not_work(lab, vip, sysctl):
    """What it says: raw finds its way by itself, eBPF asks the kernel."""
    with lab.daemon(BOTH) as daemon:
        lab.exec("gateway", "sysctl", "-qw", f"{sysctl}=0")
        try:
            (line,) = warnings(daemon)
            assert line.startswith(f"{sysctl} is 0: services {'work, but' if raw(lab) else 'do not work'}")
            assert line.endswith(f"turn it on with: sysctl -w {sysctl}=1")
            if raw(lab):
                assert answers(lab, vip, 3) == dict.fromkeys(NAMES, 1)
            else:
                with begin_connecting(lab, vip):
                    wait_for("the drop", lambda: daemon.api.get("status")["drops"].get("no_route"))
        finally:
            lab.exec("gateway", "sysctl", "-qw", f"{sysctl}=1")
        wait_for(f"{vip} to be served", lambda: is_served(lab, vip))
        assert warnings(daemon) == []


def test_a_backend_that_moves_to_another_link_layer_address_is_followed(lab):
    """As a virtual machine that fails over; it announces itself."""
    announce = ("net.ipv4.conf.eth0.arp_notify=1", "net.ipv6.conf.eth0.ndisc_notify=1")
    lab.exec("web3", "sysctl", "-qw", *announce)
    with lab.daemon(service(weights={"web3": 1})), Browser(lab, VIP) as kept:
        assert kept.get() == "web3"
        lab.exec("web3", "ip", "link", "set", "eth0", "address", "02:00:00:00:03:03")
        assert kept.get() == "web3"
        assert ask(lab, VIP) == "web3"
