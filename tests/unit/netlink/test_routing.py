"""Longest prefix match over hand-made tables, and against a plain search over random ones."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.netlink.routing import NextHop, RoutingTable, by_prefix
from l4lb.netlink.state import Link, Route, RouteKind

ETH0 = Link(2, "eth0", b"\2\0\0\0\0\2", 1500, True)
ETH1 = Link(3, "eth1", b"\2\0\0\0\0\3", 9000, True)
DOWN = Link(4, "eth2", b"\2\0\0\0\0\4", 1500, False)


def packed(text):
    return ip_address(text).packed


def route(prefix, index=2, gateway=None, **rest):
    network = ip_network(prefix)
    return Route(
        network.network_address.packed,
        network.prefixlen,
        index,
        packed(gateway) if gateway else None,
        **rest,
    )


def lookup(routes, destination):
    return RoutingTable(routes, [ETH0, ETH1, DOWN]).lookup(packed(destination))


@pytest.mark.parametrize(
    ("destination", "index", "address"),
    [
        ("10.0.0.7", 2, "10.0.0.7"),
        ("10.9.0.1", 3, "10.0.1.9"),
        ("10.9.9.1", 2, "10.0.0.9"),
        ("8.8.8.8", 2, "10.0.0.1"),
        ("2001:db8::7", 2, "2001:db8::7"),
        ("2001:db8:9::7", 3, "fe80::9"),
    ],
)
def test_the_longest_prefix_wins_in_either_family(destination, index, address):
    routes = [
        route("0.0.0.0/0", gateway="10.0.0.1"),
        route("10.0.0.0/24"),
        route("10.9.0.0/16", gateway="10.0.1.9", index=3),
        route("10.9.9.0/24", gateway="10.0.0.9"),
        route("2001:db8::/64"),
        route("2001:db8::/32", gateway="fe80::9", index=3),
    ]
    hop = lookup(routes, destination)
    assert (hop.index, hop.address) == (index, packed(address))


def test_nothing_is_found_without_a_route():
    assert lookup([route("10.0.0.0/24")], "10.0.1.1") is None
    assert lookup([route("0.0.0.0/0", gateway="10.0.0.1")], "2001:db8::1") is None


def test_the_lowest_metric_wins_and_the_first_of_equals():
    routes = [
        route("10.9.0.0/16", gateway="10.0.0.3", metric=20),
        route("10.9.0.0/16", gateway="10.0.0.1", metric=10),
        route("10.9.0.0/16", gateway="10.0.0.2", metric=10),
    ]
    assert lookup(routes, "10.9.0.1").address == packed("10.0.0.1")


def test_a_link_that_is_down_or_unknown_gives_way():
    routes = [
        route("10.9.9.0/24", index=4, gateway="10.0.2.1"),
        route("10.9.0.0/16", index=99, gateway="10.0.3.1", metric=1),
        route("10.9.0.0/16", index=3, gateway="10.0.1.1", metric=2),
    ]
    assert lookup(routes, "10.9.9.9") == NextHop(3, packed("10.0.1.1"), None, 9000)


def test_a_refusal_stops_the_search_for_shorter_prefixes():
    routes = [
        route("0.0.0.0/0", gateway="10.0.0.1"),
        route("10.9.0.0/16", index=0, kind=RouteKind.UNREACHABLE),
        route("10.9.9.0/24"),
    ]
    table = RoutingTable(routes, [ETH0])
    assert table.lookup(packed("10.9.1.1")) is None
    assert not table.is_local(packed("10.9.1.1"))
    assert table.lookup(packed("10.9.9.1")) is not None


def test_local_is_told_from_no_route_and_comes_before_main():
    routes = [
        route("10.0.0.1/32", gateway="10.0.0.9"),
        route("10.0.0.1/32", kind=RouteKind.LOCAL, metric=1000),
    ]
    table = RoutingTable(routes, [ETH0])
    assert table.lookup(packed("10.0.0.1")) is None
    assert table.is_local(packed("10.0.0.1"))
    assert not table.is_local(packed("10.0.0.2"))


def test_source_and_gateway_of_the_other_family_are_handed_on():
    hop = lookup([route("10.9.0.0/16", gateway="fe80::1", source=packed("10.0.0.5"))], "10.9.0.1")
    assert hop == NextHop(2, packed("fe80::1"), packed("10.0.0.5"), 1500)


@pytest.mark.parametrize(("of_route", "expected"), [(0, 1500), (1400, 1400), (9000, 1500)])
def test_the_mtu_is_the_routes_within_the_links(of_route, expected):
    assert lookup([route("10.9.0.0/16", mtu=of_route)], "10.9.0.1").mtu == expected


prefixes = st.builds(
    lambda bits, length: ip_network((bits >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1).map(lambda bits: bits & 0xC0C0C0C0),  # few bits, so that prefixes nest
    st.integers(0, 32),
)
routes = st.lists(
    st.builds(
        lambda prefix, index, kind, metric: route(str(prefix), index, metric=metric, kind=kind),
        prefixes,
        st.sampled_from([2, 3, 4]),
        st.sampled_from([RouteKind.UNICAST] * 4 + [RouteKind.LOCAL, RouteKind.UNREACHABLE]),
        st.integers(0, 2),
    ),
    max_size=30,
)


@given(routes, st.integers(0, 2**32 - 1).map(lambda bits: bits & 0xC0C0C0C0))
def test_agrees_with_a_search_through_all_routes(routes, bits):
    destination = ip_address(bits)
    candidates = [
        one
        for one in routes
        if destination in ip_network((one.prefix, one.length))
        and (one.kind is not RouteKind.UNICAST or one.index != DOWN.index)
    ]
    candidates.sort(key=lambda one: (-one.length, one.kind is not RouteKind.LOCAL, one.metric))
    best = candidates[0] if candidates else None

    table = RoutingTable(routes, [ETH0, ETH1, DOWN])
    hop = table.lookup(destination.packed)
    if best is None or best.kind is not RouteKind.UNICAST:
        assert hop is None
    else:
        assert hop.index == best.index
    assert table.is_local(destination.packed) == (best is not None and best.kind is RouteKind.LOCAL)


@given(routes, routes, st.integers(0, 2**32 - 1).map(lambda bits: bits & 0xC0C0C0C0))
def test_a_table_that_is_told_of_changes_is_as_one_made_anew(before, after, bits):
    destination = ip_address(bits).packed
    table, anew = RoutingTable(before, [ETH0]), RoutingTable(after, [ETH0, ETH1, DOWN])
    old, new = by_prefix(before), by_prefix(after)
    table.take_links([ETH0, ETH1, DOWN])
    table.take_routes({prefix: same for prefix, same in new.items() if old.get(prefix) != same})
    table.take_routes(dict.fromkeys(old.keys() - new.keys(), ()))
    assert table.lookup(destination) == anew.lookup(destination)
    assert table.is_local(destination) == anew.is_local(destination)
