"""What this host's links and routes mean for a config. Pure.

May be made in a thread: a gateway with the whole Internet's routes takes its time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from l4lb.control.config.config import Config
from l4lb.control.sources import sources_towards
from l4lb.model import Nat
from l4lb.netlink.interfaces import NoInterfaceError, Ways, interface_for
from l4lb.netlink.routing import RoutingTable
from l4lb.netlink.state import LOOPBACK_INDEX, KernelState


@dataclass(frozen=True, slots=True)
class HostView:
    """The host as it was at one moment."""

    state: KernelState
    table: RoutingTable
    ways: Ways
    interfaces: tuple[str, ...]  # to take packets on
    left_out: tuple[str, ...]  # lead to backends, but the config names others
    sources: Mapping[bytes, bytes]  # backend of full NAT -> the gateway's address towards it


def look(
    config: Config, state: KernelState, before: HostView | None, attached: Collection[int] = ()
) -> HostView:
    """The host as ``state`` has it. What the view ``before`` knows of all its routes is not worked out
    again. For the first one ``attached`` are the indices of the interfaces that a daemon before was on.

    Unless the config names the interfaces, none on which packets were taken is left while it exists:
    answers may come by it that no route shows, and a route that went away may be back in a moment."""
    same_routes = before is not None and before.state.routes == state.routes
    ways = before.ways if before is not None and same_routes else Ways(state.routes)
    if before is not None and same_routes and before.state.links == state.links:
        table = before.table
    else:
        table = RoutingTable(state.routes, state.links)
    named = config.gateway.interfaces
    asked = _backends(config) if named else _backends(config) | _vips(config)
    towards = ways.interfaces(state.links, asked)
    return HostView(
        state,
        table,
        ways,
        named or _in_order(state, _known(state, before, attached).union(towards, _for_vips(config, state))),
        tuple(name for name in towards if name not in named) if named else (),
        sources_towards(state, table, _full_nat_backends(config)),
    )


def _in_order(state: KernelState, names: Collection[str]) -> tuple[str, ...]:
    """Those of them that exist, by index."""
    return tuple(
        link.name for link in sorted(state.links, key=lambda link: link.index) if link.name in names
    )


def _known(state: KernelState, before: HostView | None, attached: Collection[int]) -> set[str]:
    """Names of the interfaces on which packets were taken until now, also of those that had others."""
    names: set[str] = set()
    if before is not None:
        names.update(before.interfaces)
        attached = {link.index for link in before.state.links if link.name in names}
    return names | {link.name for link in state.links if link.index in attached}


def _for_vips(config: Config, state: KernelState) -> set[str]:
    """Names of the interfaces that VIPs are about to be put on, which need not have a route to them:
    packets come as soon as a VIP is there, and the host's stack would answer them."""
    if not config.gateway.manage_vips:
        return set()
    present = {address.ip for address in state.addresses}
    links = []
    for vip in _vips(config):
        if config.gateway.vip_interface is not None or vip not in present:
            with contextlib.suppress(NoInterfaceError):  # it may come
                links.append(interface_for(state, vip, config.gateway.vip_interface))
    return {link.name for link in links if link.index != LOOPBACK_INDEX}


def _full_nat_backends(config: Config) -> set[bytes]:
    return {
        backend.address.ip
        for service in config.services
        if service.nat is Nat.FULL
        for backend in service.backends
    }


def _vips(config: Config) -> set[bytes]:
    return {service.address.ip for service in config.services}


def _backends(config: Config) -> set[bytes]:
    return {backend.address.ip for service in config.services for backend in service.backends}
