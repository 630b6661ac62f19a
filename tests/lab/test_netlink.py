"""Links, routes and policy rules of a real kernel."""

import asyncio
import os
import random
import subprocess
import time
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from l4lb.netlink.interfaces import Ways
from l4lb.netlink.routing import RoutingTable
from l4lb.netlink.watch import KernelWatch
from netlab.command import NAMESPACES
from netlab.command import inside as command_in
from tests.lab.gateway import (
    DEADLINE,
    GATEWAY,
    PEER,
    ip,
    packed,
    remove_abandoned,
    run,
    sysctl,
    two_namespaces,
    until,
)

pytestmark = pytest.mark.lab


@pytest.fixture
def lab():
    with two_namespaces():
        yield


def messy_routes(version, chance):
    """A few hundred ip commands: nested prefixes, equal prefixes with other metrics, refusals."""
    subnets = {4: ("10.70.0.", "10.71.0."), 6: ("2001:db8:70::", "2001:db8:71::")}[version]
    address, bits, lengths = {
        4: (IPv4Address, 32, (8, 10, 12, 15, 16, 20, 24, 29, 31, 32)),
        6: (IPv6Address, 128, (16, 19, 32, 44, 48, 56, 64, 96, 127, 128)),
    }[version]
    base = {4: int(IPv4Address("172.0.0.0")), 6: int(IPv6Address("fc00::"))}[version]
    made = []
    for _ in range(250):
        length = chance.choice(lengths)
        host = chance.getrandbits(bits - 8) & ~0b1110 << bits - 16  # crowded, so that prefixes nest
        prefix = f"{address((base | host) >> (bits - length) << (bits - length))}/{length}"
        side = chance.randrange(2)
        hop = f"{subnets[side]}{chance.randrange(3, 99)}"
        device = ("lan0", "wan0")[side]
        kind = chance.choice(["via"] * 8 + ["link", "refused", "mtu", "multipath"])
        metric = f"metric {chance.randrange(1, 4)}"
        refusal = chance.choice(["blackhole", "prohibit", "throw"])
        made.append(
            {
                "via": f"route add {prefix} via {hop} {metric}",
                "link": f"route add {prefix} dev {device} {metric}",
                "mtu": f"route add {prefix} via {hop} mtu {chance.randrange(1280, 1500)} {metric}",
                "refused": f"route add {refusal} {prefix} {metric}",
                "multipath": f"route add {prefix} {metric}"
                f" nexthop via {subnets[0]}201 nexthop via {subnets[0]}202",
            }[kind]
        )
    made.append(f"route add default via {subnets[0]}9 metric 50")
    return "\n".join(made), subnets[0]


def kernel_answers(version, destinations):
    """What ``ip route get`` says: destination -> (device, gateway), "local", or missing if refused."""
    answers = {}
    listing = ip(GATEWAY, "\n".join(f"route get {one}" for one in destinations), force=True)
    for line in listing.splitlines():
        words = line.split()
        if not words or line[0].isspace() or words[0] in ("unreachable", "blackhole", "prohibit", "throw"):
            continue
        if words[0] in ("local", "broadcast", "anycast"):
            answers[words[1]] = "local"
        elif words[0][0].isdigit() or ":" in words[0]:
            gateway = words[words.index("via") + 1] if "via" in words else None
            answers[words[0]] = (words[words.index("dev") + 1], gateway)
    return answers


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("carrier", [True, False])
def test_lookup_agrees_with_the_kernel_over_a_messy_table(lab, version, carrier):
    chance = random.Random(20 + version)
    routes, multipath = messy_routes(version, chance)
    ip(GATEWAY, routes, force=True)  # some prefixes repeat: refused, and so what
    if not carrier:
        family = {4: "ipv4", 6: "ipv6"}[version]
        sysctl(GATEWAY, **{f"{family}__conf__wan0__ignore_routes_with_linkdown": 1})

    async def scenario(watch):
        if not carrier:
            ip(PEER, "link set peer1 down")  # the event comes when the routes know of it
        await until(watch, lambda state: state.link("wan0").up == carrier)
        state = watch.state
        names = {link.index: link.name for link in state.links}
        table = RoutingTable(state.routes, state.links)
        destinations = ["10.70.0.1", "10.70.0.77", "10.70.0.255", "127.0.0.1", "9.9.9.9"]
        if version == 6:
            destinations = ["2001:db8:70::1", "2001:db8:70::77", "::1", "2620:fe::9"]
        unicast = [r for r in state.routes if r.length > 4 and len(r.prefix) * 8 == (32, 128)[version == 6]]
        for route in chance.choices(unicast, k=300):
            host = int.from_bytes(route.prefix, "big") | chance.getrandbits(
                8 * len(route.prefix) - route.length or 1
            )
            destinations.append(str(ip_address(host.to_bytes(len(route.prefix), "big"))))
        destinations = [one for one in destinations if not ip_address(one).is_multicast]
        answers = kernel_answers(version, destinations)
        kinds = set()
        for one in destinations:
            hop = table.lookup(packed(one))
            expected = answers.get(one)
            if expected is None or expected == "local":
                assert hop is None, (one, hop, expected)
                assert table.is_local(packed(one)) == (expected == "local"), one
                kinds.add(expected)
                continue
            device, gateway = expected
            if gateway == f"{multipath}202":
                gateway = f"{multipath}201"  # the kernel balances, l4lb takes the first
            assert hop is not None, (one, expected)
            assert (names[hop.index], hop.address) == (device, packed(gateway or one)), one
            kinds.add("via" if gateway else "link")
        assert kinds == {None, "local", "via", "link"}

    run(scenario)


def test_route_attributes_are_read(lab):
    ip(
        GATEWAY,
        """
        route add 203.0.113.0/24 via inet6 2001:db8:70::9 dev lan0
        route add 198.18.0.0/15 via 10.70.0.9 src 10.71.0.1 mtu 1400
        route add 192.0.2.0/24 via 10.70.0.9 table 7
        route add 100.64.0.0/10 via 10.70.0.9 tos 4
        """,
    )

    async def scenario(watch):
        table = RoutingTable(watch.state.routes, watch.state.links)
        over_ipv6 = table.lookup(packed("203.0.113.5"))
        assert over_ipv6.address == packed("2001:db8:70::9")
        hop = table.lookup(packed("198.18.0.1"))
        assert (hop.source, hop.mtu) == (packed("10.71.0.1"), 1400)
        assert table.lookup(packed("10.70.0.9")).mtu == 1500
        assert table.lookup(packed("192.0.2.1")) is None, "other tables are not looked up"
        assert table.lookup(packed("100.64.0.1")) is None, "TOS routes are not for every packet"

    run(scenario)


def test_the_other_end_of_a_pair_is_here_or_elsewhere(lab):
    ip(GATEWAY, "link add here0 type veth peer name here1")

    async def scenario(watch):
        await until(watch, lambda state: state.link("here0") and state.link("here1"))
        paired = {link.name for link in watch.state.links if link.paired}
        assert paired == {"lan0", "wan0"}

    run(scenario)


def by_prefix(routes):
    """Routes as something to compare: the order counts only among those of one prefix and metric."""
    groups = {}
    for route in routes:
        groups.setdefault((route.prefix, route.length, route.metric, route.kind), []).append(route)
    return groups


def same_configuration(one, other):
    return (
        set(one.links) == set(other.links)
        and set(one.addresses) == set(other.addresses)
        and by_prefix(one.routes) == by_prefix(other.routes)
    )


async def equals_a_fresh_dump(watch):
    """Wait until what was followed is what is. The kernel goes on by itself: duplicate address
    detection adds routes a second later."""
    deadline = time.monotonic() + DEADLINE
    equal = False
    while not equal:
        async with KernelWatch() as fresh:
            is_equal = partial(same_configuration, fresh.state)
        equal = await watch.wait_for(is_equal, 0.3)
        assert equal or time.monotonic() < deadline, (watch.state, fresh.state)


COMMANDS = [
    "route {verb} 172.16.{n}.0/24 via 10.70.0.{hop}",
    "route {verb} 172.16.{n}.0/24 via 10.71.0.{hop}",
    "route {verb} 172.16.{n}.0/24 nexthop via 10.70.0.{hop} nexthop via 10.71.0.{hop}",
    "route {verb} 172.17.{n}.0/24 via 10.70.0.{hop} src 10.72.{n}.1",
    "route {verb} unreachable 172.16.{n}.0/24",
    "route {verb} fd00:{n}::/64 via 2001:db8:70::{hop}",
    "route {verb} fd00:{n}::/64 via 2001:db8:71::{hop}",
    "route {verb} fd00:{n}::/64 nexthop via 2001:db8:70::{hop} nexthop via 2001:db8:71::{hop}",
    "route del 172.16.{n}.0/24",
    "route del fd00:{n}::/64",
    "addr add 10.72.{n}.1/24 dev wan0",
    "addr add 10.71.0.1/24 dev wan0",
    "addr flush dev wan0",
    "addr del 10.72.{n}.1/24 dev wan0",
    "addr add 2001:db8:72:{n}::1/64 dev lan0 nodad",
    "addr del 2001:db8:72:{n}::1/64 dev lan0",
    "nexthop replace id {n} via 10.70.0.{hop} dev lan0",
    "nexthop del id {n}",
    "route replace 172.18.{n}.0/24 nhid {n}",
    "link set wan0 down",
    "link set wan0 up",
    "link set lan0 mtu 14{n}0",
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ipv6", [True, False])
def test_events_keep_the_state_equal_to_a_fresh_dump(lab, seed, ipv6):
    if not ipv6:  # whose events would give away more than IPv4's own do
        sysctl(GATEWAY, ipv6__conf__all__disable_ipv6=1)
    chance = random.Random(seed)

    async def scenario(watch):
        for _ in range(40):
            commands = [
                chance.choice(COMMANDS).format(
                    verb=chance.choice(["add", "append", "prepend", "replace", "change", "del"]),
                    n=chance.randrange(1, 4),
                    hop=chance.randrange(3, 6),
                )
                for _ in range(3)
            ]
            await asyncio.to_thread(ip, GATEWAY, "\n".join(commands), force=True)
            await equals_a_fresh_dump(watch)

    run(scenario)


def test_a_link_that_disappears_takes_everything_with_it_and_comes_back(lab):
    async def scenario(watch):
        index = watch.state.link("wan0").index
        via_wan = packed("10.71.0.9")

        def lookup(state, destination):
            return RoutingTable(state.routes, state.links).lookup(destination)

        assert lookup(watch.state, via_wan).index == index
        ip(GATEWAY, "link set wan0 down")
        await until(watch, lambda state: lookup(state, via_wan) is None)
        assert not watch.state.link("wan0").up
        ip(GATEWAY, "link set wan0 up")
        await until(watch, lambda state: lookup(state, via_wan) is not None)

        ip(GATEWAY, "neigh add 10.71.0.9 lladdr 02:00:00:00:00:09 dev wan0")
        await until(watch, lambda state: any(n.ip == via_wan for n in state.neighbours))
        ip(GATEWAY, "link del wan0")
        await until(watch, lambda state: state.link("wan0") is None)
        state = watch.state
        for part in (state.addresses, state.neighbours, state.routes):
            assert all(one.index != index for one in part)

        ip(GATEWAY, f"link add wan0 type veth peer name peer1 netns {PEER}")
        ip(GATEWAY, "addr add 10.71.0.1/24 dev wan0\nlink set wan0 up")
        ip(PEER, "link set peer1 up")
        await until(watch, lambda state: lookup(state, via_wan) is not None)
        assert lookup(watch.state, via_wan).index == watch.state.link("wan0").index != index

    run(scenario)


def test_routes_that_go_with_the_last_address_of_a_link_are_not_kept(lab):
    ip(GATEWAY, "route add 172.16.1.0/24 via 10.71.0.3\naddr flush dev wan0 scope link")

    async def scenario(watch):
        gone = packed("172.16.1.0")
        assert any(route.prefix == gone for route in watch.state.routes)
        ip(GATEWAY, "addr del 10.71.0.1/24 dev wan0")  # the kernel sends no event for the route
        await until(watch, lambda state: all(route.prefix != gone for route in state.routes))

    run(scenario)


def test_lost_events_are_made_good_by_reading_everything(lab, caplog):
    count = 4000

    async def scenario(watch):
        def added(state):
            return sum(route.prefix[:2] == b"\xac\x14" for route in state.routes)

        # The loop stands still meanwhile, so that nobody empties the socket.
        ip(GATEWAY, "\n".join(f"route add 172.20.{n >> 8}.{n & 255}/32 dev lan0" for n in range(count)))
        await until(watch, lambda state: added(state) == count)
        ip(GATEWAY, "route del 172.20.0.7/32")
        await until(watch, lambda state: added(state) == count - 1)

    run(scenario)
    assert "events were lost" in caplog.text


def test_foreign_rules_are_noticed(lab):
    async def scenario(watch):
        assert not watch.foreign_rules
        for family in ("-4", "-6"):
            subprocess.run(
                command_in(GATEWAY, "ip", family, "rule", "add", "fwmark", "7", "table", "7"),
                check=True,
            )
            await until(watch, lambda state: watch.foreign_rules)
            subprocess.run(
                command_in(GATEWAY, "ip", family, "rule", "del", "fwmark", "7", "table", "7"),
                check=True,
            )
            await until(watch, lambda state: not watch.foreign_rules)

    run(scenario)


def test_a_subscription_can_be_ended_twice(lab):
    """A datapath that fails while it is restarted is closed again."""

    async def scenario(watch):
        heard = []
        unsubscribe = watch.subscribe(heard.append)
        unsubscribe()
        unsubscribe()
        ip(GATEWAY, "addr add 192.0.2.1/32 dev lo")
        await until(watch, lambda state: any(each.ip == packed("192.0.2.1") for each in state.addresses))
        assert heard == []

    run(scenario)


def test_no_neighbour_is_lost_while_netlink_is_reopened(lab):
    """That it could not be asked for then says nothing of it."""

    async def scenario(watch):
        index = watch.state.link("lan0").index
        await watch.resolve(index, packed("10.70.0.2"))
        await until(watch, lambda state: any(each.ip == packed("10.70.0.2") for each in state.neighbours))
        requests, watch._requests = watch._requests, None
        heard = []
        unsubscribe = watch.subscribe(heard.append)
        await watch.resolve(index, packed("10.70.0.2"))
        ip(GATEWAY, "addr add 192.0.2.1/32 dev lo")  # what resolving had to say has been heard when this is
        await until(watch, lambda state: any(each.ip == packed("192.0.2.1") for each in state.addresses))
        watch._requests = requests
        unsubscribe()
        assert all(each.mac for change in heard for each in change.neighbours)

    run(scenario)


def test_interfaces_towards(lab):
    ip(GATEWAY, "route add default via 10.71.0.2\naddr add 192.0.2.1/32 dev lo")

    async def scenario(watch):
        def towards(*addresses):
            return Ways(watch.state.routes).interfaces(watch.state.links, map(packed, addresses))

        assert towards("10.70.0.100") == ["lan0"]
        assert towards("9.9.9.9", "2001:db8:70::1") == ["lan0", "wan0"]
        assert towards("192.0.2.1") == ["wan0"], "a VIP on loopback is reached by the default route"
        assert towards("2620:fe::9") == []

    run(scenario)


def test_only_what_runs_that_are_over_have_left_is_taken_down(lab):
    with subprocess.Popen(["true"]) as over:
        over.wait()
    left = GATEWAY.replace(str(os.getpid()), str(over.pid))
    subprocess.run(["ip", "netns", "add", left], check=True)
    remove_abandoned()
    assert not (NAMESPACES / left).exists()
    assert (NAMESPACES / GATEWAY).exists()
