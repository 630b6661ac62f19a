"""The standard plans of the table.

Selections are written out slot by slot, and not compiled by a scheduler: which slot a new
connection takes is part of what an engine must get right.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from l4lb.model import (
    SNAT_PORTS,
    BackendPlan,
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

TCP: Final = Protocol.TCP
UDP: Final = Protocol.UDP
FULL: Final = Nat.FULL
KEEP: Final = WhenBackendDown.KEEP


def turns(*slots: int) -> Table:
    """Backends take turns in this order, as round_robin makes them."""
    return Table(Key.TURN, slots)


def by_flow(*slots: int) -> Table:
    """As maglev makes it; with one slot, or all alike, the hash does not matter."""
    return Table(Key.FLOW, slots)


def by_source(*slots: int) -> Table:
    """As source_hash makes it."""
    return Table(Key.SOURCE, slots)


NOBODY: Final = turns()
"""No backend can take a connection."""


def name_of(protocol: Protocol, vip: Host) -> str:
    """Of the service there."""
    return f"{protocol.label}-{vip.port}"


def service(
    net: Net,
    *backends: Host,
    protocol: Protocol = TCP,
    selection: Selection | None = None,
    down: Sequence[Host] = (),
    nat: Nat = Nat.DESTINATION,
    affinity: float = 0.0,
    when_down: WhenBackendDown = WhenBackendDown.RESET,
    vip: Host | None = None,
) -> ServicePlan:
    """A service on the VIP: web1 and web2 taking turns, unless told otherwise.

    ``down`` are backends that failed their checks; they are chosen only if ``selection`` says so.
    """
    backends = backends or (net.web1, net.web2)
    if selection is None:
        selection = turns(*(index for index, backend in enumerate(backends) if backend not in down))
    vip = vip or net.vip
    snat = _endpoint(net.wan).ip if nat is FULL else None
    return ServicePlan(
        name=name_of(protocol, vip),
        address=_endpoint(vip),
        protocol=protocol,
        selection=selection,
        backends=tuple(
            BackendPlan(_endpoint(backend), alive=backend not in down, snat=snat) for backend in backends
        ),
        nat=nat,
        affinity_timeout=affinity,
        when_backend_down=when_down,
    )


def plan(
    *services: ServicePlan,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    snat_ports: tuple[int, int] = SNAT_PORTS,
) -> Plan:
    """Services, and the defaults for what is not named."""
    return Plan(services, timeouts or Timeouts(), limits or Limits(), snat_ports)


SNAT_PORT: Final = 20_000


def full(
    net: Net, *backends: Host, protocol: Protocol = TCP, ports: tuple[int, int] = (SNAT_PORT, SNAT_PORT)
) -> Plan:
    """Full NAT to one backend with one source port, so that there is nothing to choose."""
    return plan(service(net, *(backends or (net.web1,)), protocol=protocol, nat=FULL), snat_ports=ports)


def snat(net: Net) -> Host:
    """What the backend sees under ``full``."""
    return net.wan.at(SNAT_PORT)


def _endpoint(host: Host) -> Endpoint:
    return Endpoint(ip_address(host.ip).packed, host.port)
