"""Costs that follow how the backends are doing: looks at them ten times a second, and tells the datapath.

Edge: tasks and the clock. What a look means is decided in l4lb/schedulers/adaptive.py, which is pure.
Only services whose scheduler is adaptive are looked at; without any, nothing runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from l4lb.datapath.base import DatapathError
from l4lb.model import Costs, Endpoint, Load, Plan, ServicePlan
from l4lb.schedulers import adaptive
from l4lb.schedulers.adaptive import Pool
from l4lb.schedulers.measured import between
from l4lb.schedulers.scheduler import Candidate

log = logging.getLogger(__name__)

ADAPTIVE: Final = adaptive.SCHEDULER.name

LOOK: Final = 0.1
"""Seconds between two looks. A backend that turned slow is noticed after two or three of them, and a look
takes a millisecond for a hundred backends."""

Target = tuple[str, Endpoint]


class Looked(Protocol):
    """The part of a datapath that is needed here."""

    async def loads(self, services: Collection[str]) -> dict[Target, Load]:
        """See ``Datapath``."""
        ...

    async def reweigh(self, costs: Mapping[str, Costs]) -> None:
        """See ``Datapath``."""
        ...


IsHot = Callable[[str, Endpoint, float], bool]
"""Whether a service's backend is hot at this time, as its agent says."""


@dataclass(slots=True)
class _Service:
    """A service with the adaptive scheduler."""

    candidates: tuple[Candidate, ...]
    pool: Pool = field(default_factory=Pool)
    loads: dict[Endpoint, Load] = field(default_factory=dict)  # at the last look
    costs: Costs | None = None  # that the datapath has


class Adaptation:
    """The adaptive services, and their looks."""

    def __init__(
        self,
        datapath: Callable[[], Looked],
        is_hot: IsHot = lambda service, backend, now: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``datapath`` gives the one that runs, or raises DatapathError."""
        self._datapath = datapath
        self._is_hot = is_hot
        self._clock = clock
        self._sleep = sleep
        self._services: dict[str, _Service] = {}
        self._some = asyncio.Event()

    def follow(self, plan: Plan, candidates: Mapping[str, Sequence[Candidate]]) -> Plan:
        """The plan with costs from what is known; looks go on with its services.

        Args:
            plan: as the schedulers compiled it.
            candidates: of the adaptive services, by name; who is not among them is not looked at.
        """
        before, self._services = self._services, {}
        for name, chosen in candidates.items():
            known = before.get(name, _Service(()))
            self._services[name] = replace(known, candidates=tuple(chosen))
        if self._services:
            self._some.set()
        else:
            self._some.clear()
        now = self._clock()
        for service in self._services.values():
            if service.candidates:
                service.costs = adaptive.costs(service.candidates, service.pool, now)
            else:
                service.costs = None
        return replace(plan, services=tuple(map(self.with_costs, plan.services)))

    def with_costs(self, plan: ServicePlan) -> ServicePlan:
        """A service's plan with the costs that the datapath has now."""
        service = self._services.get(plan.name)
        return plan if service is None or service.costs is None else replace(plan, selection=service.costs)

    def pool(self, service: str) -> Pool | None:
        """What is known of an adaptive service's backends; None of another one."""
        known = self._services.get(service)
        return known.pool if known is not None else None

    def shuns(self, service: str, backend: Endpoint) -> bool:
        """True if an adaptive service keeps new connections from a backend because of how it is doing."""
        known = self._services.get(service)
        return known is not None and adaptive.shuns(known.pool, backend)

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            await self._some.wait()
            try:
                await self.look()
            except DatapathError as error:
                log.debug("no look at the backends: %s", error)
            except Exception:
                log.exception("the costs of the backends were not followed")
            await self._sleep(LOOK)

    async def look(self) -> None:
        """Look once, and tell the datapath what has changed.

        Raises:
            DatapathError: it does not run, or does not take the costs.
        """
        datapath = self._datapath()
        loads = await datapath.loads(self._services.keys())
        now = self._clock()
        changed = {}
        for name, service in self._services.items():
            if not service.candidates:
                continue
            costs = self._learn(name, service, loads, now)
            if costs != service.costs:
                changed[name] = service.costs = costs
        if changed:
            await datapath.reweigh(changed)

    def _learn(self, name: str, service: _Service, loads: Mapping[Target, Load], now: float) -> Costs:
        seen = {}
        for candidate in service.candidates:
            address = candidate.address
            load = loads.get((name, address), Load())
            before = service.loads.get(address, load)  # of the first look nothing is new
            seen[address] = between(before, load, hot=self._is_hot(name, address, now))
            service.loads[address] = load
        service.pool = adaptive.observe(service.pool, seen, now)
        return adaptive.costs(service.candidates, service.pool, now)
