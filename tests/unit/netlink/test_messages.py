"""What is read out of rtnetlink messages, and what is left out."""

from ipaddress import ip_address
from socket import AF_BRIDGE, AF_INET6

import pytest

from l4lb.netlink.messages import (
    Nud,
    RouteKey,
    is_tentative,
    read_address,
    read_link,
    read_neighbour,
    read_route,
    read_rule,
)
from l4lb.netlink.state import Address, Link, Neighbour, Route, RouteKind
from tests.unit.netlink import kernel

NOT_A_LINK_TYPE_WITH_MACS = 776  # ARPHRD_SIT


def packed(text):
    return ip_address(text).packed


@pytest.mark.parametrize(
    ("flags", "enabled", "up"),
    [(0, False, False), (kernel.UP, True, False), (kernel.UP | kernel.LOWER_UP, True, True)],
)
def test_a_link_is_up_with_carrier_only(flags, enabled, up):
    entry = read_link(kernel.link(2, flags=flags))
    assert entry.link == Link(2, "eth0", bytes.fromhex("020000000002"), 1500, up)
    assert entry.enabled == enabled


def test_a_link_without_a_mac_has_none():
    assert read_link(kernel.link(2, mac=None, ifi_type=NOT_A_LINK_TYPE_WITH_MACS)).link.mac == b""


@pytest.mark.parametrize(
    ("kind", "namespace", "paired"),
    [("veth", 0, True), ("veth", None, False), ("netkit", 3, True), ("macvlan", 0, False)],
)
def test_a_pair_whose_other_end_is_in_another_namespace(kind, namespace, paired):
    attrs = [
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind)]}),
        ("IFLA_LINK_NETNSID", namespace),
    ]
    assert read_link(kernel.link(2, attrs=attrs)).link.paired == paired


@pytest.mark.parametrize("partial", [{"mtu": None}, {"family": AF_BRIDGE}])
def test_partial_link_messages_are_left_out(partial):
    # Of a wireless event and of a bridge port; a bridge port's DELLINK does not mean the link is gone.
    assert read_link(kernel.link(2, **partial)) is None


def test_on_a_point_to_point_link_the_local_address_counts():
    entry = read_address(kernel.address(5, "10.0.0.2", 32, local="10.0.0.1"))
    assert entry.address == Address(5, packed("10.0.0.1"), 32)
    assert entry.peer == packed("10.0.0.2")
    assert read_address(kernel.address(5, "2001:db8::1", 64)).address == Address(
        5, packed("2001:db8::1"), 64
    )


@pytest.mark.parametrize(("flags", "tentative"), [(0x80, False), (0x40, True), (0x44, False), (0x48, True)])
def test_a_tentative_address_is_not_in_use_unless_optimistic(flags, tentative):
    assert is_tentative(kernel.address(5, "2001:db8::1", 64, flags=flags)) == tentative


def test_a_route_with_everything():
    entry = read_route(
        kernel.route(
            "10.9.0.0/16",
            attrs=[
                ("RTA_GATEWAY", "10.0.0.1"),
                ("RTA_PREFSRC", "10.0.0.5"),
                ("RTA_PRIORITY", 7),
                ("RTA_METRICS", {"attrs": [("RTAX_MTU", 1400)]}),
            ],
        )
    )
    assert entry.key == RouteKey(254, packed("10.9.0.0"), 16, 7)
    assert entry.hops == (
        Route(
            packed("10.9.0.0"), 16, 2, packed("10.0.0.1"), packed("10.0.0.5"), 7, 1400, RouteKind.UNICAST
        ),
    )


def test_default_routes_and_gateways_of_the_other_family():
    (hop,) = read_route(
        kernel.route("0.0.0.0/0", attrs=[("RTA_VIA", {"family": AF_INET6, "addr": "fe80::1"})])
    ).hops
    assert (hop.prefix, hop.length, hop.gateway) == (bytes(4), 0, packed("fe80::1"))
    (hop,) = read_route(kernel.route("::/0", attrs=[("RTA_GATEWAY", "fe80::1")])).hops
    assert (hop.prefix, hop.length, hop.gateway) == (bytes(16), 0, packed("fe80::1"))


def test_a_multipath_route_has_its_hops_in_order():
    paths = [
        {"oif": index, "hops": 0, "flags": 0, "attrs": [("RTA_GATEWAY", gateway)]}
        for index, gateway in ((3, "10.0.1.1"), (2, "10.0.0.1"))
    ]
    entry = read_route(kernel.route("10.9.0.0/16", oif=None, attrs=[("RTA_MULTIPATH", paths)]))
    assert [(hop.index, hop.gateway) for hop in entry.hops] == [
        (3, packed("10.0.1.1")),
        (2, packed("10.0.0.1")),
    ]


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (1, RouteKind.UNICAST),
        (2, RouteKind.LOCAL),
        (3, RouteKind.LOCAL),  # broadcast
        (4, RouteKind.LOCAL),  # anycast
        (6, RouteKind.UNREACHABLE),  # blackhole
        (7, RouteKind.UNREACHABLE),
        (8, RouteKind.UNREACHABLE),  # prohibit
        (9, RouteKind.UNREACHABLE),  # throw
    ],
)
def test_route_types(type_, kind):
    assert read_route(kernel.route("10.9.0.0/16", type=type_)).hops[0].kind is kind


def test_a_route_through_a_lightweight_tunnel_is_refused():
    (hop,) = read_route(kernel.route("10.9.0.0/16", attrs=[("RTA_ENCAP_TYPE", 1)])).hops
    assert hop.kind is RouteKind.UNREACHABLE


@pytest.mark.parametrize(
    "rest", [{"table": 100}, {"tos": 4}, {"src_len": 8}, {"type": 11}, {"flags": 0x200}]
)
def test_routes_that_are_not_for_every_packet_are_left_out(rest):
    assert read_route(kernel.route("10.9.0.0/16", **rest)) is None


@pytest.mark.parametrize(
    "state", [Nud.REACHABLE, Nud.STALE, Nud.DELAY, Nud.PROBE, Nud.PERMANENT, Nud.NOARP]
)
def test_a_neighbour_in_a_usable_state_has_its_mac(state):
    entry = read_neighbour(kernel.neighbour(2, "10.0.0.7", "02:00:00:00:00:07", state=state))
    assert entry == (Neighbour(2, packed("10.0.0.7"), bytes.fromhex("020000000007")), state)


@pytest.mark.parametrize("state", [Nud.NONE, Nud.INCOMPLETE, Nud.FAILED])
def test_a_neighbour_in_another_state_has_none_even_if_one_is_remembered(state):
    entry = read_neighbour(kernel.neighbour(2, "fe80::7", "02:00:00:00:00:07", state=state))
    assert entry == (Neighbour(2, packed("fe80::7"), None), state)


@pytest.mark.parametrize(
    "message",
    [
        kernel.neighbour(2, "10.0.0.7", "02:00:00:00:00:07", family=AF_BRIDGE),
        kernel.neighbour(2, "10.0.0.7", flags=0x8),  # proxy
        kernel.neighbour(2, "ff02::1:ff00:7", "33:33:ff:00:00:07", state=Nud.NOARP),
        kernel.neighbour(2, "224.0.0.251", "01:00:5e:00:00:fb", state=Nud.NOARP),
    ],
)
def test_what_is_no_neighbour_to_send_to_is_left_out(message):
    assert read_neighbour(message) is None


@pytest.mark.parametrize(
    ("rest", "unconditional"),
    [
        ({}, True),
        ({"action": 7}, False),
        ({"src_len": 8}, False),
        ({"attrs": [("FRA_FWMARK", 1)]}, False),
        ({"attrs": [("FRA_FWMASK", 1)]}, False),
        ({"attrs": [("FRA_IIFNAME", "eth0")]}, False),
        ({"attrs": [("FRA_L3MDEV", 1)]}, False),
    ],
)
def test_a_rule_with_a_selector_is_conditional(rest, unconditional):
    assert read_rule(kernel.rule(32766, 254, **rest)).unconditional is unconditional


def test_a_rule_that_suppresses_prefixes_is_conditional():
    message = kernel.rule(32766, 254)
    message["attrs"] = [("FRA_TABLE", 254), ("FRA_SUPPRESS_PREFIXLEN", 0)]
    assert not read_rule(message).unconditional
