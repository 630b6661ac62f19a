"""The gateway's own firewall and balanced packets: none of its rules concerns them, in either direction."""

import re

import pytest

from netlab.servers import UDP_ECHO_PORT
from tests.lab.clients import ask, begin_connecting, datagrams, wait_for
from tests.lab.nft import nft_table
from tests.lab.services import BACKENDS, VIP, VIP6, service

pytestmark = pytest.mark.lab

VIPS = [pytest.param(VIP, id="IPv4"), pytest.param(VIP6, id="IPv6")]
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
DROP = "".join(
    f"meta l4proto {{ tcp, udp }} {ip} {end} {client} counter drop\n"
    for ip, client in (("ip", "10.1.0.10"), ("ip6", "2001:db8:1::10"))
    for end in ("saddr", "daddr")
)
"""All that the client sends or gets, but for its neighbours."""


def rules(family, chains):
    """A table with these chains, each by its type, that drop the client's packets."""
    text = "".join(f"chain {name} {{\n{kind}\n{DROP}}}\n" for name, kind in chains.items())
    return f"table {family} firewall {{\n{text}}}\n"


INET = rules("inet", {hook: f"type filter hook {hook} priority 0;" for hook in HOOKS})
INGRESS = rules(
    "netdev",
    {name: f'type filter hook ingress device "{name}" priority -500;' for name in ("eth0", "eth1")},
)


def dropped(lab, family):
    listed = lab.exec("gateway", "nft", "list", "table", family, "firewall").stdout
    return sum(map(int, re.findall(r"counter packets (\d+)", listed)))


@pytest.fixture(scope="module")
def daemon(lab):
    text = service("web") + service("web6", vip=VIP6)
    text += service("echo", port=UDP_ECHO_PORT, protocol="udp")
    with lab.daemon(text) as daemon:
        yield daemon


def echo(lab):
    with datagrams(lab, VIP, UDP_ECHO_PORT) as client:
        client.send(b"")
        return client.recv(100)


@pytest.mark.parametrize("vip", VIPS)
def test_rules_of_the_host_do_not_see_balanced_packets(lab, daemon, vip):
    with nft_table(lab, "gateway", INET):
        assert ask(lab, vip)
        assert echo(lab)
        assert dropped(lab, "inet") == 0
        with begin_connecting(lab, BACKENDS[4]["web1"]):  # past the VIP
            wait_for("the rules to drop it", lambda: dropped(lab, "inet"))


@pytest.mark.parametrize("vip", VIPS)
def test_rules_at_the_ingress_of_interfaces_do_not_keep_them_back(lab, daemon, vip):
    """They come behind the programs of tc and xdp, and raw has its packet when they drop the kernel's."""
    with nft_table(lab, "gateway", INGRESS):
        assert ask(lab, vip)
        assert echo(lab)
        before = dropped(lab, "netdev")
        with begin_connecting(lab, BACKENDS[4]["web1"]):
            wait_for("the rules to drop it", lambda: dropped(lab, "netdev") > before)
