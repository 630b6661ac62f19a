"""Which address of the gateway a backend of full NAT sees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l4lb.control.sources import sources_towards
from l4lb.netlink.routing import RoutingTable
from l4lb.netlink.state import Address, Route
from tests.unit.control.fake_host import GATEWAY, packed


def source(backend: str, state=GATEWAY) -> bytes | None:
    table = RoutingTable(state.routes, state.links)
    return sources_towards(state, table, [packed(backend)]).get(packed(backend))


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        pytest.param("10.2.0.11", "10.2.0.1", id="the route's own preferred source"),
        pytest.param("10.9.1.1", "10.2.0.1", id="behind a router: the address next to the router"),
        pytest.param("2001:db8:2::b", "2001:db8:2::1", id="IPv6: the address of the subnet"),
    ],
)
def test_source(backend, expected):
    assert source(backend) == packed(expected)


@pytest.mark.parametrize("backend", ["192.0.2.1", "10.2.0.1"])
def test_no_source_without_a_way_out(backend):
    assert source(backend) is None


def test_the_gateways_own_address_is_better_than_a_vip():
    routes = (Route(packed("10.9.0.0"), 16, 3),)  # on link, but the link has no address in it
    addresses = (Address(3, packed("10.1.0.100"), 32), Address(3, packed("10.2.0.1"), 24))
    assert source("10.9.1.1", replace(GATEWAY, routes=routes, addresses=addresses)) == packed("10.2.0.1")


def test_an_interface_with_link_local_addresses_only_has_no_source():
    state = replace(GATEWAY, addresses=(Address(3, packed("fe80::1"), 64),))
    assert source("2001:db8:2::b", state) is None
