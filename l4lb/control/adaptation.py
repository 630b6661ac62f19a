"""Costs that follow how the backends are doing: twenty looks at them a second, and the datapath is told.

Edge: tasks and the clock. What a look means is decided in l4lb/schedulers/adaptive.py, which is pure.
Only services whose scheduler is adaptive are looked at; without any, nothing runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from l4lb.datapath.base import DatapathError
from l4lb.health.probes.result import Outcome, ProbeKind
from l4lb.health.probing import LastProbe
from l4lb.model import BackendKey, Costs, Endpoint, Load, Plan, ServicePlan
from l4lb.schedulers import adaptive
from l4lb.schedulers.adaptive import Pool
from l4lb.schedulers.measured import Measured, between
from l4lb.schedulers.scheduler import Candidate
from l4lb.turns import in_turns

log = logging.getLogger(__name__)

ADAPTIVE: Final = adaptive.SCHEDULER.name

LOOK: Final = 0.05
"""Seconds between two looks. What requests tell of a backend that turned slow takes them about twice the
usual time to tell; then it is noticed half of this later on average. Where the usual time is 100 ms, bursts
are evaded better than with looks twice as far apart, and no worse than with closer ones."""

REST: Final = 3.0
"""Times as long as a look took until the next one, at least: a look takes a millisecond for a hundred
backends, and those of thousands are not to take more than a quarter of a core."""

_MANY: Final = 1000
"""Backends of a service whose estimates and costs are made in turns of their own: of thousands, each takes
tens of milliseconds."""


class Looked(Protocol):
    """The part of a datapath that is needed here."""

    async def loads(self, services: Collection[str]) -> dict[BackendKey, Load]:
        """See ``Datapath``."""
        ...

    async def reweigh(self, costs: Mapping[str, Costs]) -> None:
        """See ``Datapath``."""
        ...


LastProbeOf = Callable[[str, Endpoint], LastProbe | None]
"""The last probe of a service's backend, on this clock; None: none is over."""

IsHot = Callable[[str, Endpoint, float], bool]
"""Whether a service's backend is hot at this time, as its agent says."""


@dataclass(slots=True)
class _Service:
    """A service with the adaptive scheduler."""

    candidates: tuple[Candidate, ...]
    pool: Pool = field(default_factory=Pool)
    loads: dict[Endpoint, Load] = field(default_factory=dict)  # of the candidates at the last look
    looked: float = 0.0  # when that was
    costs: Costs | None = None  # of now; None without candidates


class Adaptation:
    """The adaptive services, and their looks."""

    def __init__(
        self,
        datapath: Callable[[], Looked],
        is_hot: IsHot = lambda service, backend, now: False,
        last_probe: LastProbeOf = lambda service, backend: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``datapath`` gives the one that runs, or raises DatapathError."""
        self._datapath = datapath
        self._is_hot = is_hot
        self._last_probe = last_probe
        self._clock = clock
        self._sleep = sleep
        self._services: dict[str, _Service] = {}
        self._told: dict[str, Costs] = {}  # what the datapath has besides its plan
        self._told_to: Looked | None = None
        self._some = asyncio.Event()
        # Costs are by index, so none may be sent while the datapath goes over to another plan.
        self._changing = asyncio.Lock()

    @asynccontextmanager
    async def following(
        self, plan: Plan, candidates: Mapping[str, Sequence[Candidate]]
    ) -> AsyncIterator[Plan]:
        """The plan with costs from what is known, to be handed over to the datapath inside: if that
        fails, looks go on with the services of the plan before.

        Args:
            plan: as the schedulers compiled it.
            candidates: of the adaptive services, by name; who is not among them is not looked at.
        """
        async with self._changing:
            now = self._clock()
            services = {
                name: self._service(name, tuple(chosen), now) for name, chosen in candidates.items()
            }
            yield replace(plan, services=tuple(_with_costs(services, each) for each in plan.services))
            self._services = services
            self._told.clear()  # what it has now may be of a moment ago
            if services:
                self._some.set()
            else:
                self._some.clear()

    def _service(self, name: str, candidates: tuple[Candidate, ...], now: float) -> _Service:
        known = self._services.get(name, _Service(()))
        costs = adaptive.costs(candidates, known.pool, now) if candidates else None
        return replace(known, candidates=candidates, costs=costs)

    def with_costs(self, plan: ServicePlan) -> ServicePlan:
        """A service's plan with the costs of now."""
        return _with_costs(self._services, plan)

    def pool(self, service: str) -> Pool | None:
        """What is known of an adaptive service's backends; None of another one."""
        known = self._services.get(service)
        return known.pool if known is not None else None

    def shares(self, service: str) -> dict[Endpoint, float]:
        """What each backend of an adaptive service that takes new connections has had of them; see
        ``adaptive.shares``."""
        known = self._services.get(service)
        return adaptive.shares(known.candidates, known.pool, self._clock()) if known is not None else {}

    def shuns(self, service: str, backend: Endpoint) -> bool:
        """True if an adaptive service keeps new connections from a backend because of how it is doing."""
        known = self._services.get(service)
        return known is not None and adaptive.shuns(known.pool, backend, self._clock())

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            await self._some.wait()
            began = self._clock()
            try:
                await self.look()
            except DatapathError as error:
                log.debug("no look at the backends: %s", error)
            except Exception:
                log.exception("the costs of the backends were not followed")
            await self._sleep(max(LOOK, REST * (self._clock() - began)))

    async def look(self) -> None:
        """Look once, and tell the datapath what has changed.

        Raises:
            DatapathError: it does not run, or does not take the costs.
        """
        async with self._changing:
            datapath = self._datapath()
            if datapath is not self._told_to:
                self._told.clear()  # another one begins with its plan
                self._told_to = datapath
            loads = await datapath.loads(self._services.keys())
            now = self._clock()
            changed = {}
            async for name, service in in_turns(self._services.items()):
                if service.candidates:
                    service.costs = await self._learn(name, service, loads, now)
                    if service.costs != self._told.get(name):
                        changed[name] = service.costs
            if changed:
                await datapath.reweigh(changed)
                self._told |= changed

    async def _learn(
        self, name: str, service: _Service, loads: Mapping[BackendKey, Load], now: float
    ) -> Costs:
        seen, looked = {}, {}
        async for candidate in in_turns(service.candidates):
            address = candidate.address
            load = loads.get((name, address), Load())
            # Of the first look nothing is new, also of one that was away.
            before = service.loads.get(address, load)
            load = looked[address] = _believable(load, before, now - service.looked)
            measured = between(before, load, hot=self._is_hot(name, address, now))
            seen[address] = _with_probe(measured, self._last_probe(name, address), service.looked)
        service.loads, service.looked = looked, now
        if len(seen) > _MANY:
            await asyncio.sleep(0)
        service.pool = adaptive.observe(service.pool, seen, now)
        if len(seen) > _MANY:
            await asyncio.sleep(0)
        return adaptive.costs(service.candidates, service.pool, now)


def _believable(load: Load, before: Load, passed: float) -> Load:
    """A datapath's counters are not of one moment, and the sum of waiting times is a difference of large
    numbers. No request has waited for longer since the last look than that is ago; twice, as the clocks are
    read at two moments too."""
    most = before.waiting + 2 * passed * load.outstanding
    return replace(load, waiting=most) if load.waiting > most else load


def _with_probe(measured: Measured, last: LastProbe | None, since: float) -> Measured:
    """With what a probe says that was over since then: of who gets no requests nothing else would tell."""
    if last is None or last.at <= since:
        return measured
    http = last.kind is ProbeKind.HTTP
    match last.result.outcome:
        case Outcome.ANSWERED if http:
            return replace(measured, probed=last.result.round_trip or 0.0)
        case Outcome.LOST if not http:  # a SYN: it may be sent again
            return replace(measured, silences=measured.silences + 1)
        case Outcome.REFUSED | Outcome.WRONG | Outcome.LOST:
            return replace(measured, failures=measured.failures + 1)
    return measured


def _with_costs(services: Mapping[str, _Service], plan: ServicePlan) -> ServicePlan:
    service = services.get(plan.name)
    return plan if service is None or service.costs is None else replace(plan, selection=service.costs)
