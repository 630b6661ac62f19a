"""Random plans: a small world, so that connections meet."""

from __future__ import annotations

from ipaddress import ip_address
from random import Random
from typing import Final

from l4lb.model import (
    BackendPlan,
    Costs,
    Endpoint,
    Key,
    Limits,
    Nat,
    Plan,
    Protocol,
    Selection,
    ServicePlan,
    Table,
    Timeouts,
    WhenBackendDown,
)
from tests.conformance.world import Host, Net

STEP: Final = 4.0
"""All times that pass are multiples of this, in seconds, and all timeouts fall half-way between: where an
engine looks at what is due once a second, nothing depends on when."""

TIMEOUTS: Final = Timeouts(
    syn_sent=18.0,
    syn_received=22.0,
    established=102.0,
    fin_wait=38.0,
    last_ack=14.0,
    time_wait=14.0,
    closed=6.0,
    udp_new=18.0,
    udp=54.0,
)
AFFINITY: Final = 42.0
SNAT_PORTS: Final = (20_000, 20_000)
"""Nothing to choose."""


def random_plan(random: Random, net: Net) -> Plan:
    """Up to four services of all kinds."""
    kinds = [(Protocol.TCP, 80), (Protocol.TCP, 81), (Protocol.UDP, 80), (Protocol.UDP, 81)]
    services = [_service(random, net, *kind) for kind in kinds if random.random() < 0.8]
    return Plan(
        tuple(services or [_service(random, net, *kinds[0])]),
        TIMEOUTS,
        Limits(established=random.choice((1, 3, 10)) if random.random() < 0.2 else 1_000_000),
        SNAT_PORTS,
    )


def changed(random: Random, net: Net, plan: Plan) -> tuple[Plan, bool]:
    """A plan that may follow this one: a service is there anew, gone, or in another state; and whether a
    service or a backend may be removed."""
    services = list(plan.services)
    index = random.randrange(len(services))
    before = services[index]
    change = random.random()
    if change < 0.15 and len(services) > 1:
        del services[index]
    elif change < 0.3:
        services[index] = _service(random, net, before.protocol, before.address.port)
    else:
        backends = tuple(
            BackendPlan(backend.address, random.random() < 0.7, backend.snat) for backend in before.backends
        )
        services[index] = _with(random, before, backends)
    return Plan(tuple(services), plan.timeouts, plan.limits, plan.snat_ports), change < 0.3


def _service(random: Random, net: Net, protocol: Protocol, port: int) -> ServicePlan:
    nat = Nat.FULL if random.random() < 0.2 else Nat.DESTINATION
    snat = _endpoint(net.wan).ip if nat is Nat.FULL else None
    # Some share their backends with the other service of their protocol.
    shift = 0 if random.random() < 0.4 else port - 80
    hosts = random.sample((net.web1, net.web2, net.slim), random.choice((1, 2, 2, 3)))
    backends = tuple(
        BackendPlan(_endpoint(host.at(host.port + shift)), random.random() < 0.9, snat) for host in hosts
    )
    plan = ServicePlan(
        name=f"{protocol.label}-{port}",
        address=_endpoint(net.vip.at(port)),
        protocol=protocol,
        selection=Table(Key.TURN, ()),
        backends=backends,
        nat=nat,
        affinity_timeout=AFFINITY if random.random() < 0.2 else 0.0,
        when_backend_down=random.choice(tuple(WhenBackendDown)),
    )
    return _with(random, plan, backends)


def _with(random: Random, before: ServicePlan, backends: tuple[BackendPlan, ...]) -> ServicePlan:
    """The same service with these backends, those that are up being chosen."""
    up = [index for index, backend in enumerate(backends) if backend.alive]
    return ServicePlan(
        name=before.name,
        address=before.address,
        protocol=before.protocol,
        selection=_selection(random, up),
        backends=backends,
        nat=before.nat,
        affinity_timeout=before.affinity_timeout,
        when_backend_down=before.when_backend_down,
    )


def _selection(random: Random, up: list[int]) -> Selection:
    """Without chance: two engines must come to the same choice."""
    if up and random.random() < 0.3:
        return Costs(tuple((index, random.choice((65_536, 32_768, 100))) for index in up))
    slots = tuple(random.choice(up) for _ in range(random.choice((1, 5, 7)))) if up else ()
    return Table(random.choice((Key.TURN, Key.SOURCE, Key.FLOW, Key.FLOW)), slots)


def _endpoint(host: Host) -> Endpoint:
    return Endpoint(ip_address(host.ip).packed, host.port)
