"""Which interfaces to attach to, and which one a VIP goes on."""

import random
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from l4lb.netlink.interfaces import (
    NoInterfaceError,
    Ways,
    contains,
    interface_for,
    interface_with_subnet,
)
from l4lb.netlink.state import LOOPBACK_INDEX, Address, KernelState, Link, Route, RouteKind

LO = Link(1, "lo", bytes(6), 65536, True)
WAN = Link(2, "wan", b"\2\0\0\0\0\2", 1500, True)
LAN = Link(3, "lan", b"\2\0\0\0\0\3", 1500, False)
BACKUP = Link(4, "backup", b"\2\0\0\0\0\4", 1500, True)


def packed(text):
    return ip_address(text).packed


def address(index, text):
    interface = ip_interface(text)
    return Address(index, interface.ip.packed, interface.network.prefixlen)


def route(prefix, index, kind=RouteKind.UNICAST, metric=0):
    network = ip_network(prefix)
    return Route(network.network_address.packed, network.prefixlen, index, kind=kind, metric=metric)


STATE = KernelState(
    links=(LAN, LO, BACKUP, WAN),
    addresses=(
        address(1, "127.0.0.1/8"),
        address(2, "198.51.100.2/24"),
        address(3, "10.1.0.1/16"),
        address(4, "10.0.0.4/8"),
        address(2, "fe80::2/64"),
        address(3, "2001:db8:1::1/64"),
        address(1, "192.0.2.7/32"),
    ),
    routes=(
        route("198.51.100.0/24", 2),
        route("10.1.0.0/16", 3),
        route("10.0.0.0/8", 4),
        route("2001:db8:1::/64", 3),
        route("0.0.0.0/0", 2, metric=100),
        route("0.0.0.0/0", 4, metric=200),
        route("203.0.113.0/24", 0, RouteKind.UNREACHABLE),
        route("10.1.0.1/32", 3, RouteKind.LOCAL),
        route("192.0.2.7/32", 1, RouteKind.LOCAL),
        route("192.0.2.8/32", 4, RouteKind.LOCAL),
        route("10.1.0.8/32", 4, RouteKind.LOCAL),
    ),
)


@pytest.mark.parametrize(
    ("addresses", "names"),
    [
        (["10.1.0.100"], ["lan"]),  # though it has no carrier
        (["10.1.0.1"], ["lan"]),
        (["10.9.0.1"], ["backup"]),
        (["10.9.0.1", "10.1.2.3", "198.51.100.9"], ["wan", "lan", "backup"]),
        (["9.9.9.9"], ["wan", "backup"]),  # both default routes
        (["203.0.113.1"], ["wan", "backup"]),  # refusing is not leading there
        (["192.0.2.7"], ["wan", "backup"]),  # on loopback: packets for it come from outside
        (["127.0.0.1"], ["wan", "backup"]),
        (["192.0.2.8"], ["wan", "backup"]),  # on an interface where no clients are: they come by the others
        (["10.1.0.8"], ["lan", "backup"]),
        (["2001:db8:1::9"], ["lan"]),
        (["2001:db8:2::9"], []),
        ([], []),
    ],
)
def test_interfaces_towards(addresses, names):
    assert Ways(STATE.routes).interfaces(STATE.links, map(packed, addresses)) == names


def leading_to(routes, address):
    """Indices of the interfaces, one route after the other."""
    best, indices, holders = -1, set(), set()
    for route in routes:
        if route.kind is RouteKind.UNREACHABLE or route.index in (0, LOOPBACK_INDEX):
            continue
        if route.length < best or not contains(route.prefix, route.length, address):
            continue
        if route.kind is RouteKind.LOCAL and route.length == 8 * len(address):
            holders.add(route.index)
            continue
        if route.length > best:
            best, indices = route.length, set()
        indices.add(route.index)
    return indices | holders


@pytest.mark.parametrize("seed", range(20))
def test_looking_addresses_up_finds_what_going_through_all_routes_does(seed):
    """In addresses with few bits that are not 0, so that prefixes of all lengths meet."""
    draw = random.Random(seed)

    def some_address(size):
        return bytes(draw.choice((0, 0, 128, 129)) for _ in range(size))

    def some_route():
        size = draw.choice((4, 16))
        length = draw.choice((0, 8 * size, draw.randint(0, 8 * size)))
        shift = 8 * size - length
        prefix = (int.from_bytes(some_address(size)) >> shift << shift).to_bytes(size)
        kind, metric = draw.choice(list(RouteKind)), draw.choice((0, 100))
        return Route(prefix, length, draw.randint(0, 6), metric=metric, kind=kind)

    links = [Link(index, f"eth{index}", b"", 1500, draw.random() < 0.5) for index in range(1, 7)]
    draw.shuffle(links)
    routes = [some_route() for _ in range(draw.choice((1, 10, 300)))]
    ways = Ways(routes)
    for _ in range(200):
        asked = [some_address(draw.choice((4, 16))) for _ in range(draw.choice((1, 1, 2)))]
        asked += draw.choices([route.prefix for route in routes], k=draw.choice((0, 0, 1)))
        indices = {index for address in asked for index in leading_to(routes, address)}
        assert ways.interfaces(links, asked) == [f"eth{index}" for index in sorted(indices)]


@pytest.mark.parametrize(
    ("vip", "name", "chosen"),
    [
        ("10.1.0.100", None, LAN),  # the longer of two subnets
        ("10.9.0.100", None, BACKUP),
        ("10.9.0.100", "wan", WAN),
        ("192.0.2.100", None, WAN),  # the default route with the lowest metric
        ("127.0.0.9", None, WAN),  # never loopback unless named
        ("127.0.0.9", "lo", LO),
        ("2001:db8:1::100", None, LAN),
        ("fe80::100", "lan", LAN),
    ],
)
def test_interface_for_a_vip(vip, name, chosen):
    assert interface_for(STATE, packed(vip), name) is chosen


@pytest.mark.parametrize(
    ("vip", "name", "words"),
    [
        ("2001:db8:2::100", None, "no interface has a subnet that contains it"),
        ("fe80::100", None, "name the interface"),
        ("10.1.0.100", "eth9", "there is no interface eth9"),
    ],
)
def test_no_interface_for_a_vip(vip, name, words):
    with pytest.raises(NoInterfaceError, match=words):
        interface_for(STATE, packed(vip), name)


@pytest.mark.parametrize(
    ("vip", "chosen"), [("10.1.0.100", LAN), ("10.9.0.1", BACKUP), ("9.9.9.9", None), ("fe80::9", None)]
)
def test_interface_with_a_subnet(vip, chosen):
    assert interface_with_subnet(STATE, packed(vip)) is chosen
