"""What can be asked of the running balancer, as its API answers."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from l4lb.control.api.report import (
    BY_AGENT,
    BackendFacts,
    Json,
    agents_report,
    backend_report,
    connection_report,
    counters_report,
    decision_report,
    probes_report,
    service_report,
    vip_report,
)
from l4lb.control.backend_signals import signals
from l4lb.control.config.edits import find_backend, find_in_any, find_service
from l4lb.control.convergence import Convergence
from l4lb.control.desired import DesiredState
from l4lb.control.drains import Drains
from l4lb.control.explain import Known, concerns, explain
from l4lb.control.supervisor import DatapathSupervisor
from l4lb.datapath.base import ConnectionFilter, DatapathError
from l4lb.health.rise_fall import Health, HealthState
from l4lb.metrics.server import MetricsServer
from l4lb.metrics.snapshot import BackendSnapshot, Choice, Snapshot, choices_of
from l4lb.model import Backend, BackendKey, Counters, Endpoint, Service, Traffic
from l4lb.netlink.watch import KernelWatch
from l4lb.turns import in_turns

_DATAPATH_ANSWERS: Final = 2.0
"""Seconds, for metrics: a scrape is to tell of a datapath that hangs and not to hang with it."""

_T = TypeVar("_T")


class Answers:
    """Looks at all that runs and changes nothing."""

    def __init__(
        self,
        desired: DesiredState,
        supervisor: DatapathSupervisor,
        convergence: Convergence,
        drains: Drains,
        watch: KernelWatch,
        our_vips: Callable[[], Collection[bytes]],
        metrics: MetricsServer,
    ) -> None:
        """``our_vips``: those that l4lb has added to the host."""
        self._desired = desired
        self._supervisor = supervisor
        self._convergence = convergence
        self._drains = drains
        self._watch = watch
        self._our_vips = our_vips
        self._metrics = metrics
        self._began, self._began_at = time.monotonic(), time.time()
        self._version = version("l4lb")  # read from a file

    async def status(self, socket_path: Path) -> Json:
        """The whole at a glance; see ``GET /v1/status``."""
        return await self._status(socket_path, await self._counters())

    async def overview(self, socket_path: Path) -> Json:
        """``status`` and all services, from one look at the counters."""
        counters = await self._counters()
        return {
            "status": await self._status(socket_path, counters),
            "services": await self._reports(self._desired.config.services, counters.backends),
        }

    async def _status(self, socket_path: Path, counters: Counters) -> Json:
        config = self._desired.config
        running = self._supervisor.failure is None
        details = dict(await self._supervisor.running.details()) if running else {}
        capabilities = self._supervisor.latest.capabilities
        return {
            "version": self._version,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._began, 3),
            "config": str(config.path),
            "socket": str(socket_path),
            "datapath": {
                "name": capabilities.name,
                "running": running,
                "capabilities": dataclasses.asdict(capabilities),
                "details": details,
            },
            **counters_report(counters),
            "probes": probes_report(
                self._convergence.prober.report(),
                self._convergence.agents.counted,
                self._convergence.budget.limits,
            ),
            "checks": {"made": self._convergence.health.made, "packets": self._convergence.health.packets},
            "agents": agents_report(self._convergence.agents.refused, self._convergence.health.refused),
            "services": len(config.services),
            "vips": vip_report(config.services, self._watch.state, self._our_vips()),
            "warnings": self._warnings(),
        }

    def _warnings(self) -> list[str]:
        """What is wrong now, a line each."""
        failure = self._supervisor.failure
        first = [] if failure is None else [f"the datapath is being restarted: {failure}"]
        problems = (self._convergence.prober.problem, self._metrics.problem)
        return [*first, *self._convergence.look_for_warnings(), *filter(None, problems)]

    async def snapshot(self) -> Snapshot:
        """All that the metrics are made of."""
        config, convergence = self._desired.config, self._convergence
        checks, running = convergence.health, self._supervisor.failure is None
        capabilities = self._supervisor.latest.capabilities
        try:
            async with asyncio.timeout(_DATAPATH_ANSWERS):
                counters = await self._counters()
        except (DatapathError, TimeoutError):  # it hangs, and has not been found out yet
            counters, running = Counters({}, {}, {}), False
        return Snapshot(
            version=self._version,
            datapath=capabilities.name,
            began=self._began_at,
            running=running,
            services=await self._snapshots(config.services, counters.backends),
            counters=counters,
            limits=capabilities.made_for or config.gateway.limits,
            probes=convergence.prober.report(),
            agents=convergence.agents.counted,
            checks=(checks.made, checks.packets),
            warnings=len(self._warnings()),
            refused=agents_report(convergence.agents.refused, checks.refused)["refused"],
        )

    async def _snapshots(
        self, services: Sequence[Service], traffic: Mapping[BackendKey, Traffic]
    ) -> list[tuple[Service, list[BackendSnapshot]]]:
        def of_all() -> Iterator[BackendSnapshot]:
            for service in services:
                choices = self._choices(service)
                for backend in service.backends:
                    yield BackendSnapshot(
                        address=backend.address,
                        weight=backend.weight,
                        up=self._health(service.name, backend.address).usable,
                        choice=choices.get(backend.address),
                        traffic=traffic.get((service.name, backend.address), Traffic()),
                    )

        return _by_service(services, [each async for each in in_turns(of_all())])

    def _choices(self, service: Service) -> dict[Endpoint, Choice]:
        try:
            return choices_of(self._convergence.plan_of(service.name))
        except DatapathError:  # so new that no pass has met it
            return {}

    async def services(self, name: str | None = None) -> list[Json]:
        """All services, or the one called ``name``, with their backends.

        Raises:
            NotFound: there is no such service.
        """
        config = self._desired.config
        chosen = config.services if name is None else (find_service(config, name),)
        traffic = (await self._counters()).backends
        return await self._reports(chosen, traffic)

    async def backend(self, name: str, address: Endpoint) -> Json:
        """One backend, as the answer to a change of it; ``warning`` is a line if its service has no backend
        now that takes new connections, else null.

        Raises:
            NotFound: there is no such service or backend.
        """
        config = self._desired.config
        backend = find_backend(config, name, address)
        report = self._backend(find_service(config, name), backend, (await self._counters()).backends)
        return {**report, "warning": self._convergence.why_unserved(name)}

    async def connections(self, which: ConnectionFilter, limit: int) -> tuple[list[Json], int]:
        """Up to ``limit`` connections and how many there are.

        Raises:
            NotFound: there is no such service, or no such backend and no connection of it either.
            DatapathError: the datapath is not running.
        """
        config = self._desired.config
        if which.service is not None:
            find_service(config, which.service)
        datapath = self._supervisor.running
        found, total = await datapath.connections(which, limit)
        if not total and which.backend is not None:
            find_in_any(config, which.service, which.backend)
        return [connection_report(connection) async for connection in in_turns(found)], total

    async def explain(self, name: str, client: Endpoint) -> Json:
        """Which backend of a service a client would get now, and why.

        Raises:
            NotFound: there is no such service.
            ValueError: the client cannot be one of it.
            DatapathError: the datapath is not running.
        """
        service = find_service(self._desired.config, name)
        plan = self._convergence.plan_of(name)
        datapath = self._supervisor.running
        found, recalled = await datapath.loads({name}), await datapath.recall(name, client)
        reports, now = self._convergence.agents.reports, time.monotonic()
        unwilling = {
            backend.address: f"{BY_AGENT}: {sight.said}"
            for backend in service.backends
            if (sight := reports.look(name, backend.address, now)) is not None and sight.wish.none
        }
        down = {
            backend.address: against
            for backend in service.backends
            if (against := self._health(name, backend.address).against)
        }
        return explain(
            Known(
                service,
                plan,
                {address: load for (_, address), load in found.items()},
                self._signals(service),
                down,
                unwilling,
                recalled,
                self._supervisor.latest.capabilities.most_compared,
            ),
            client,
        )

    async def decisions(self, which: ConnectionFilter, limit: int) -> list[Json]:
        """The last choices that were kept, the newest first.

        Raises:
            NotFound: there is no such service.
            DatapathError: the datapath is not running.
        """
        if which.service is not None:
            find_service(self._desired.config, which.service)
        kept = await self._supervisor.running.decisions()
        now = time.monotonic()
        return [decision_report(each, now) for each in reversed(kept) if concerns(which, each)][:limit]

    def _signals(self, service: Service) -> dict[Endpoint, dict[str, str]]:
        now = time.monotonic()
        reports = self._convergence.agents.reports
        sights = {each.address: reports.look(service.name, each.address, now) for each in service.backends}
        agents = {address: sight for address, sight in sights.items() if sight is not None}
        adaptation = self._convergence.adaptation
        return signals(adaptation.pool(service.name), adaptation.shares(service.name), agents, now)

    def _health(self, service: str, backend: Endpoint) -> Health:
        try:
            return self._convergence.health.state(service, backend)
        except KeyError:  # so new that no pass has met it
            return Health(HealthState.UNKNOWN, time.monotonic())

    async def _reports(
        self, services: Sequence[Service], traffic: Mapping[BackendKey, Traffic]
    ) -> list[Json]:
        of_all = (
            self._backend(service, each, traffic) for service in services for each in service.backends
        )
        reports = _by_service(services, [each async for each in in_turns(of_all)])
        return [service_report(service, backends) for service, backends in reports]

    def _backend(self, service: Service, backend: Backend, traffic: Mapping[BackendKey, Traffic]) -> Json:
        target, now = (service.name, backend.address), time.monotonic()
        facts = BackendFacts(
            self._health(*target),
            self._drains.get(target),
            traffic.get(target, Traffic()),
            self._desired.in_file(*target, backend.weight),
            self._convergence.agents.reports.look(*target, now),
            self._convergence.kept_out.since(target),
            self._convergence.prober.last(*target),
            counted=self._supervisor.failure is None,
        )
        return backend_report(service, backend, facts, now=now, wall=datetime.now())

    async def _counters(self) -> Counters:
        """Nothing while the datapath restarts, for then nothing has been counted."""
        if self._supervisor.failure is not None:
            return Counters({}, {}, {})
        return await self._supervisor.running.counters()


def _by_service(services: Sequence[Service], of_all: Iterable[_T]) -> list[tuple[Service, list[_T]]]:
    """What there is for each backend of one service after the other, with its service."""
    left = iter(of_all)
    return [(service, list(islice(left, len(service.backends)))) for service in services]
