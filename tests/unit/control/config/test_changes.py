"""How the difference between two configs reads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l4lb.control.config.changes import describe_changes, describe_gateway_changes
from l4lb.control.config.config import GatewayConfig
from l4lb.datapath.base import Capabilities
from l4lb.model import AgentCheck, Backend, Endpoint, HealthCheck, Limits, Nat, Protocol, Service

A, B = Endpoint.parse("10.2.0.12:80"), Endpoint.parse("10.2.0.13:80")
WEB = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(A),))


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (WEB, []),
        (
            replace(WEB, backends=(Backend(A), Backend(B, 2))),
            ["service web: backend 10.2.0.13:80 added (weight 2)"],
        ),
        (replace(WEB, backends=()), ["service web: backend 10.2.0.12:80 removed"]),
        (replace(WEB, backends=(Backend(A, 3),)), ["service web: backend 10.2.0.12:80 weight 1 -> 3"]),
        (
            replace(WEB, backends=(Backend(A, 0),)),
            ["service web: backend 10.2.0.12:80 drains (weight was 1)"],
        ),
        (
            replace(WEB, scheduler="maglev", nat=Nat.FULL, protocol=Protocol.UDP),
            [
                "service web: protocol tcp -> udp (resets its connections)",
                "service web: scheduler round_robin -> maglev",
                "service web: nat destination -> full (resets its connections)",
            ],
        ),
        (
            replace(WEB, health=HealthCheck(interval=5.0, host="shop")),
            ["service web: health.interval 2 -> 5", "service web: health.host default -> shop"],
        ),
    ],
)
def test_changes_of_a_service(new, lines):
    assert describe_changes([WEB], [new]) == lines


def test_agents_come_change_and_go():
    asked = replace(WEB, agent=AgentCheck(7077, key="/key"))
    often = replace(WEB, agent=AgentCheck(7077, key="/key", interval=0.5))
    assert describe_changes([WEB], [asked]) == ["service web: agent default -> udp port 7077"]
    assert describe_changes([asked], [often]) == ["service web: agent.interval 2 -> 0.5"]
    assert describe_changes([asked], [WEB]) == ["service web: agent udp port 7077 -> default"]


def test_a_drained_backend_comes_back():
    drained = replace(WEB, backends=(Backend(A, 0),))
    assert describe_changes([drained], [WEB]) == [
        "service web: backend 10.2.0.12:80 takes connections again (weight 1)"
    ]


def test_services_come_and_go():
    dns = Service("dns", Endpoint.parse("[2001:db8::53]:53"), Protocol.UDP)
    assert describe_changes([WEB], [dns]) == [
        "service web: removed",
        "service dns: added ([2001:db8::53]:53 udp, 0 backends)",
    ]
    assert describe_changes([], [WEB]) == ["service web: added (10.1.0.100:80 tcp, 1 backend)"]


def test_the_order_of_services_and_backends_is_no_change():
    two = replace(WEB, backends=(Backend(A), Backend(B)))
    turned = replace(WEB, backends=(Backend(B), Backend(A)))
    other = replace(WEB, name="other")
    assert describe_changes([two, other], [other, turned]) == []


def test_gateway_changes_say_when_they_come_into_force():
    old = GatewayConfig()
    new = replace(
        old, interfaces=("eth0", "eth1"), hold=5.0, limits=Limits(half_open=10), manage_vips=False
    )
    raw = Capabilities("raw")
    assert describe_gateway_changes(old, old, raw) == []
    assert describe_gateway_changes(old, new, raw) == [
        "gateway: interfaces [] -> [eth0, eth1]",
        "gateway: manage_vips true -> false",
        "gateway: hold 30 -> 5 (at the next start)",
        "gateway: limits.half_open 65536 -> 10",
    ]


def test_limits_that_tables_are_made_for_change_with_the_tables():
    made_for = Limits(half_open=1000, established=1000, affinity=1000, fragments=1000)
    datapath = Capabilities("tc", made_for=made_for)
    old, less, more = (
        GatewayConfig(limits=Limits(number, number, number, number)) for number in (1000, 999, 1001)
    )
    later = " (after 'l4lb stop' and a start)"
    assert describe_gateway_changes(old, more, datapath) == [
        f"gateway: limits.{name} 1000 -> 1001{later}"
        for name in ("half_open", "established", "affinity", "fragments")
    ]
    assert describe_gateway_changes(old, less, datapath) == [
        f"gateway: limits.half_open 1000 -> 999{later}",
        "gateway: limits.established 1000 -> 999",
        f"gateway: limits.affinity 1000 -> 999{later}",
        f"gateway: limits.fragments 1000 -> 999{later}",
    ]
    assert describe_gateway_changes(more, old, datapath)[0] == "gateway: limits.half_open 1001 -> 1000"
