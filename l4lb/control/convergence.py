"""Makes what is be what should be: the datapath's plan and interfaces, the VIPs, the warnings.

One pass looks at everything - the config in force, the health of the backends, the kernel's links
and routes - and changes only what differs, so it does not matter what a pass was asked for. Many
reasons at once (a hundred backends go down together) make one pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from l4lb.control.config import Config
from l4lb.control.desired import DesiredState
from l4lb.control.health_log import HealthLog
from l4lb.control.host_checks import Sysctls, warnings_for
from l4lb.control.reconcile import SelectionCache, Target, plan_for
from l4lb.control.sources import sources_towards
from l4lb.control.standing_warnings import StandingWarnings
from l4lb.control.supervisor import DatapathSupervisor
from l4lb.datapath.base import DatapathError
from l4lb.health.rise_fall import Health, HealthState
from l4lb.health.runner import HealthRunner, OnChange
from l4lb.model import Counters, Endpoint, Nat, Plan
from l4lb.netlink.interfaces import interfaces_towards
from l4lb.netlink.routing import RoutingTable
from l4lb.netlink.state import Change, KernelState, Link, Route
from l4lb.netlink.vips import VipError, VipKeeper
from l4lb.netlink.watch import KernelWatch

log = logging.getLogger(__name__)

_SETTLE: Final = 0.02
"""Seconds from the first reason for a pass to the pass, for others to join."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    interfaces: tuple[str, ...]
    plan: Plan
    table: RoutingTable
    state: KernelState


class Convergence:
    """The passes, one at a time."""

    def __init__(
        self,
        desired: DesiredState,
        *,
        watch: KernelWatch,
        vips: VipKeeper,
        supervisor: DatapathSupervisor,
        make_health: Callable[[OnChange], HealthRunner],
        read_sysctls: Callable[[], Sysctls],
    ) -> None:
        self._desired = desired
        self._watch = watch
        self._vips = vips
        self._supervisor = supervisor
        self._read_sysctls = read_sysctls
        self._health = make_health(self._health_changed)
        self._health_log = HealthLog()
        self._cache = SelectionCache()
        self._warnings = StandingWarnings()
        self._table: tuple[tuple[tuple[Route, ...], tuple[Link, ...]], RoutingTable] | None = None
        self._asked = asyncio.Event()
        self._lock = asyncio.Lock()

    @property
    def health(self) -> HealthRunner:
        """The health checks of the backends in force."""
        return self._health

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stands in the way now, one line each."""
        return self._warnings.lines

    async def begin(self) -> None:
        """The first pass, which starts the datapath.

        Raises:
            DatapathError: it cannot run here.
        """
        config = self._desired.config
        self._health.update(config.services)
        wanted = await self._wanted(config)
        await self._supervisor.start(wanted.interfaces, wanted.plan)
        await self._settle(config, wanted)

    async def now(self) -> None:
        """A pass, with all that has changed until now.

        Raises:
            DatapathError: the datapath did not take the plan; the VIPs are as they were.
        """
        async with self._lock:
            config = self._desired.config
            self._health.update(config.services)
            counters = await self._counters() if self._health_log.concerns_connections else None
            self._health_log.write(counters)
            wanted = await self._wanted(config)
            await self._supervisor.update(wanted.interfaces, wanted.plan)
            await self._settle(config, wanted)

    def ask(self) -> None:
        """Something has changed: there will be a pass soon."""
        self._asked.set()

    def kernel_changed(self, change: Change) -> None:
        """Ask for a pass if the change matters here; neighbours are the datapath's business."""
        if change.links or change.addresses or change.routes or change.rules:
            self.ask()

    def _health_changed(self, service: str, backend: Endpoint, health: Health) -> None:
        self._health_log.note(service, backend, health)
        self.ask()

    async def run(self) -> None:
        """Make the passes that were asked for, until cancelled."""
        while True:
            await self._asked.wait()
            await asyncio.sleep(_SETTLE)
            self._asked.clear()
            try:
                await self.now()
            except DatapathError as error:
                log.error("the datapath did not take the new plan: %s", error)
            except Exception:
                log.exception("a change was not brought to the datapath")

    async def _wanted(self, config: Config) -> _Wanted:
        state = self._watch.state
        table = self._routing_table(state)
        down: set[Target] = {
            (service.name, backend.address)
            for service in config.services
            for backend in service.backends
            if self._health.state(service.name, backend.address).state is HealthState.DOWN
        }
        # In a thread: compiling a Maglev table would hold up the checks and the API.
        plan = await asyncio.to_thread(
            plan_for,
            config.services,
            config.gateway,
            down=down,
            sources=sources_towards(state, table, _full_nat_backends(config)),
            cache=self._cache,
        )
        interfaces = config.gateway.interfaces or interfaces_towards(state, _addresses(config))
        return _Wanted(tuple(interfaces), plan, table, state)

    def _routing_table(self, state: KernelState) -> RoutingTable:
        """Made anew only if something it is made of is new: a gateway may have a million routes."""
        made_of = (state.routes, state.links)
        if self._table is None or self._table[0] != made_of:
            self._table = (made_of, RoutingTable(*made_of))
        return self._table[1]

    async def _settle(self, config: Config, wanted: _Wanted) -> None:
        """What follows the datapath.

        The VIPs do: a VIP that is announced before the datapath takes its packets would have the
        host's stack reset the first connections.
        """
        found = warnings_for(
            config, wanted.state, wanted.table, self._read_sysctls(), self._watch.foreign_rules
        )
        if not wanted.interfaces and config.services:
            found.append(
                "no interface has a route to a VIP or a backend: nothing is balanced until one does"
            )
        vips = {service.address.ip: config.gateway.vip_interface for service in config.services}
        try:
            if config.gateway.manage_vips:
                await self._vips.keep(vips)
            else:
                await self._vips.clear()
        except VipError as error:
            # Its interface may be about to appear: the change of links that it brings tries again.
            found.append(str(error))
        self._warnings.replace(found)

    async def _counters(self) -> Counters | None:
        try:
            return await self._supervisor.running.counters()
        except DatapathError:
            return None


def _full_nat_backends(config: Config) -> set[bytes]:
    return {
        backend.address.ip
        for service in config.services
        if service.nat is Nat.FULL
        for backend in service.backends
    }


def _addresses(config: Config) -> set[bytes]:
    """Those of all VIPs and backends."""
    vips = {service.address.ip for service in config.services}
    return vips | {backend.address.ip for service in config.services for backend in service.backends}
