"""Which interfaces and source addresses a config leads to on a host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from l4lb.control.config.config import Config, GatewayConfig
from l4lb.control.host_view import look
from l4lb.model import Backend, Endpoint, Nat, Service
from l4lb.netlink.state import Address, Route
from tests.unit.control.fake_host import GATEWAY, packed

WEB = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(Endpoint.parse("10.2.0.11:80")),))
CONFIG = Config(GatewayConfig(), (WEB,), Path("l4lb.toml"))


def test_interfaces_are_those_towards_vips_and_backends():
    assert look(CONFIG, GATEWAY, None).interfaces == ("eth0", "eth1")


def test_interfaces_of_the_config_come_first():
    config = replace(CONFIG, gateway=GatewayConfig(interfaces=("eth7",)))
    assert look(config, GATEWAY, None).interfaces == ("eth7",)


def test_the_interface_that_a_vip_is_about_to_be_put_on_is_taken_before_it_is_there():
    """By the routes packets for this one would leave by eth1."""
    eth2, eth3 = (replace(GATEWAY.links[2], index=index, name=f"eth{index - 2}") for index in (4, 5))
    default = Route(bytes(4), 0, 4, gateway=packed("10.8.0.1"))
    state = replace(GATEWAY, links=(*GATEWAY.links, eth2, eth3), routes=(*GATEWAY.routes, default))
    far = replace(CONFIG, services=(replace(WEB, address=Endpoint.parse("10.9.0.100:80")),))

    def taken(state, **gateway):
        return look(replace(far, gateway=GatewayConfig(**gateway)), state, None).interfaces

    assert taken(state) == ("eth1", "eth2")  # by the default route
    assert taken(state, vip_interface="eth3") == ("eth1", "eth3")
    assert taken(state, vip_interface="eth9") == ("eth1",)  # it may come
    assert taken(state, vip_interface="lo") == ("eth1",)
    assert taken(state, manage_vips=False) == ("eth1",)
    assert taken(state, interfaces=("eth0",)) == ("eth0",)
    somewhere = replace(state, addresses=(Address(3, packed("10.9.0.100"), 32),))  # used as it is
    assert taken(somewhere) == ("eth1",)
    assert taken(somewhere, vip_interface="eth3") == ("eth1", "eth3")


def test_sources_are_worked_out_for_full_nat_only():
    assert look(CONFIG, GATEWAY, None).sources == {}
    full = replace(CONFIG, services=(replace(WEB, nat=Nat.FULL),))
    assert look(full, GATEWAY, None).sources == {packed("10.2.0.11"): packed("10.2.0.1")}


def test_what_is_made_of_all_routes_is_made_again_only_for_new_ones():
    """The table for new links, too: it has the routes by links that are up."""
    first = look(CONFIG, GATEWAY, None)
    same = look(CONFIG, replace(GATEWAY, routes=(*GATEWAY.routes,), addresses=()), first)
    assert (same.table is first.table, same.ways is first.ways) == (True, True)
    down = look(CONFIG, replace(GATEWAY, links=GATEWAY.links[:2]), first)
    assert (down.table is first.table, down.ways is first.ways) == (False, True)
    assert down.interfaces == ("eth0",)
    fewer = look(CONFIG, replace(GATEWAY, routes=GATEWAY.routes[:1]), first)
    assert (fewer.table is first.table, fewer.ways is first.ways) == (False, False)


def test_an_interface_on_which_packets_were_taken_is_kept_while_it_exists():
    """A route that goes away may leave answers coming by it."""
    lo, eth0, eth1 = GATEWAY.links
    routes = tuple(route for route in GATEWAY.routes if route.index != eth1.index)
    down = replace(GATEWAY, links=(lo, eth0, replace(eth1, up=False)), routes=routes)
    before = look(CONFIG, GATEWAY, None)
    assert look(CONFIG, down, before).interfaces == ("eth0", "eth1")
    renamed = replace(down, links=(lo, eth0, replace(eth1, up=False, name="lan9")))
    assert look(CONFIG, renamed, before).interfaces == ("eth0", "lan9")
    assert look(CONFIG, renamed, look(CONFIG, down, before)).interfaces == ("eth0", "lan9")
    assert look(CONFIG, down, None).interfaces == ("eth0",)
    assert look(CONFIG, down, None, attached={2, 3}).interfaces == ("eth0", "eth1")  # by a daemon before
    assert look(CONFIG, down, None, attached={2, 9}).interfaces == ("eth0",)
    up = replace(GATEWAY, routes=routes)
    assert look(CONFIG, up, None).interfaces == ("eth0",)
    assert look(CONFIG, up, before).interfaces == ("eth0", "eth1")
    assert look(CONFIG, up, look(CONFIG, up, before)).interfaces == ("eth0", "eth1")
    assert look(CONFIG, up, None, attached={3}).interfaces == ("eth0", "eth1")
    named = replace(CONFIG, gateway=GatewayConfig(interfaces=("eth0",)))
    assert look(CONFIG, up, look(named, up, before)).interfaces == ("eth0",)
    assert look(CONFIG, replace(GATEWAY, links=(lo, eth0), routes=routes), before).interfaces == ("eth0",)
