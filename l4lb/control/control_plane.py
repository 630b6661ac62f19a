"""The running balancer as its API sees it: what can be done to it. What can be asked: api/answers.py."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from l4lb.control.api.answers import Answers
from l4lb.control.config.changes import describe_changes, describe_gateway_changes
from l4lb.control.config.config import Config
from l4lb.control.config.edits import Edit, SetWeight, find_backend, find_in_any, find_service
from l4lb.control.convergence import Convergence, MakeAgents, MakeProber
from l4lb.control.desired import Change, DesiredState, FileChanged
from l4lb.control.down_file import DownFile
from l4lb.control.drain_file import DrainFile
from l4lb.control.drains import Drains
from l4lb.control.host_checks import Sysctls, read_sysctls
from l4lb.control.lock import Refused
from l4lb.control.supervisor import DatapathSupervisor
from l4lb.datapath.base import ConnectionFilter, Datapath, DatapathError
from l4lb.health.agents.runner import AgentRunner
from l4lb.health.prober import Prober
from l4lb.health.runner import HealthRunner, OnChange
from l4lb.metrics.server import MetricsServer
from l4lb.metrics.snapshot import Snapshot
from l4lb.model import Endpoint
from l4lb.netlink.vips import VipError, VipKeeper
from l4lb.netlink.watch import KernelWatch

_METRICS_AGAIN: Final = 5.0
"""Seconds between tries to listen where the config wants the metrics."""

_EDIT_TRIES: Final = 3
"""Where somebody else saves the file at the same time: a person does so once."""

log = logging.getLogger(__name__)


class NotTaken(DatapathError):
    """A change is in force, and in the file if it was to be, but the datapath has not taken it yet.

    ``changes`` are what is different, one line each.
    """

    def __init__(self, changes: list[str], why: DatapathError) -> None:
        self.changes = changes
        super().__init__(f"in force, but the datapath has not taken it yet, and is asked again: {why}")


@dataclasses.dataclass(frozen=True, slots=True)
class Edges:
    """What the control plane stands on. Tests put others in their place."""

    watch: KernelWatch
    vips: VipKeeper
    our_vips: Callable[[], Collection[bytes]]  # those that l4lb has added to the host
    make_datapath: Callable[[Config], Datapath]
    attached_before: Callable[[], Collection[int]]  # interfaces, by index, that a daemon before was on
    drain_file: DrainFile
    down_file: DownFile
    code_has_changed: Callable[[], bool] = lambda: False  # since the start
    make_health: Callable[[OnChange], HealthRunner] = HealthRunner
    read_sysctls: Callable[[Iterable[str]], Sysctls] = read_sysctls
    make_agents: MakeAgents = AgentRunner
    make_prober: MakeProber = Prober
    make_metrics: Callable[[Callable[[], Awaitable[Snapshot]]], MetricsServer] = MetricsServer


class ControlPlane:
    """One gateway's services, from the config to the datapath."""

    def __init__(self, desired: DesiredState, edges: Edges) -> None:
        """Nothing runs until ``start``."""
        self._desired = desired
        self._watch, self._vips = edges.watch, edges.vips
        self._supervisor = DatapathSupervisor(
            lambda: edges.make_datapath(self._for_datapath()), code_has_changed=edges.code_has_changed
        )
        self._convergence = Convergence(
            desired,
            watch=edges.watch,
            vips=edges.vips,
            supervisor=self._supervisor,
            attached_before=edges.attached_before,
            make_health=edges.make_health,
            down_file=edges.down_file,
            make_agents=edges.make_agents,
            make_prober=edges.make_prober,
            read_sysctls=edges.read_sysctls,
        )
        self._attached_before = edges.attached_before
        self._drain_file, self._down_file = edges.drain_file, edges.down_file
        self._drains = Drains(edges.drain_file.kept)
        self._metrics = edges.make_metrics(lambda: self.answers.snapshot())
        self.answers: Final = Answers(
            desired,
            self._supervisor,
            self._convergence,
            self._drains,
            edges.watch,
            edges.our_vips,
            self._metrics,
        )
        self._hold = False
        self._goes_on = False  # the datapath, without us: packets still come for the VIPs
        self._start_failed = False
        self._stopped = False
        self._left: list[str] = []  # what a stop could not do, a line each
        self._running = AsyncExitStack()
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Begin to balance. If it fails or is cancelled, nothing is left running but what did before.

        Raises:
            DatapathError: the datapath cannot run here.
            Refused: netlink cannot be had.
        """
        async with self._changing, AsyncExitStack() as running:
            try:
                await self._watch.start()
            except OSError as error:
                raise Refused(f"the kernel's links and routes cannot be read: {error}") from None
            running.push_async_callback(self._watch.stop)
            running.push_async_callback(self._remove_vips)
            running.push_async_callback(self._convergence.health.close)
            running.push_async_callback(self._convergence.agents.close)
            running.push_async_callback(self._convergence.prober.close)
            running.push_async_callback(self._close_datapath)
            running.push(self._leave_what_was_there)
            await self._note_drains()
            await self._convergence.begin()
            self._convergence.prober.start()
            self._watch.subscribe(self._convergence.kernel_changed)
            self._convergence.ask()  # for what has changed since the first pass looked
            passes = asyncio.create_task(self._convergence.run())
            looks = asyncio.create_task(self._convergence.adaptation.run())
            tries = asyncio.create_task(self._keep_metrics())
            running.push_async_callback(asyncio.wait, (passes, looks, tries))
            for task in (passes, looks, tries):
                running.callback(task.cancel)
            running.push_async_callback(self._metrics.close)
            await self._metrics.follow(self._desired.config.gateway.metrics)
            self._running = running.pop_all()

    async def stop(self, *, hold: bool) -> None:
        """Stop balancing and remove the VIPs. ``hold`` keeps what a restart needs: of a datapath that
        goes on by itself all, of another one as much as the config said at the start.

        Raises:
            DatapathError: something is left on the host that should not be.
        """
        async with self._changing:
            self._stopped = True
            self._goes_on = hold and self._supervisor.latest.capabilities.survives_daemon
            self._hold = self._goes_on or (hold and self._desired.at_start.hold > 0)
            await self._running.aclose()
            if not hold:
                self._drain_file.keep({})
                self._down_file.keep({})
        if self._left:
            raise DatapathError("; ".join(self._left))

    async def datapath_answers(self) -> bool:
        """Whether the datapath runs and answers; returns when it does."""
        return await self._supervisor.answers()

    async def outdated(self) -> None:
        """Return only if the datapath has died and another one takes another daemon: see the supervisor."""
        await self._supervisor.outdated()

    def _for_datapath(self) -> Config:
        """The config in force, but what it said at the start of what is for the next one. A datapath that
        has died is followed by its kind, also where that was the choice of ``auto``: another kind may not
        run here, and ends the connections that this one keeps."""
        config, start = self._desired.config, self._desired.at_start
        first = self._supervisor.took_over is None
        kind = start.datapath if first else self._supervisor.latest.capabilities.name
        gateway = dataclasses.replace(config.gateway, datapath=kind, hold=start.hold)
        return dataclasses.replace(config, gateway=gateway)

    async def _keep_metrics(self) -> None:
        """At boot their address may come later than we do, and a port may be taken for a while."""
        while True:
            await asyncio.sleep(_METRICS_AGAIN)
            async with self._changing:
                await self._metrics.follow(self._desired.config.gateway.metrics)

    def _leave_what_was_there(self, kind: type[BaseException] | None, *_: object) -> None:
        """A start that fails or is cancelled ends nothing that went on before it: a stop that comes
        early would cut connections that a later one keeps."""
        if kind is not None and not self._stopped:
            self._hold = bool(self._supervisor.took_over)
            self._start_failed = True

    async def _close_datapath(self) -> None:
        try:
            await self._supervisor.close(hold=self._hold)
        except DatapathError as error:
            self._note_left(f"the datapath did not stop cleanly: {error}")

    async def _remove_vips(self) -> None:
        if self._start_failed:
            # Before there is a datapath no VIP has been touched. Now that ours is closed, programs that are
            # on interfaces are those of before: packets still come for the VIPs.
            self._goes_on = self._supervisor.took_over is None or bool(self._attached_before())
        if not self._goes_on:
            try:
                await self._vips.clear()
            except VipError as error:
                for line in error.problems:
                    self._note_left(line)
        await self._vips.close()

    def _note_left(self, line: str) -> None:
        log.error("%s", line)
        self._left.append(line)

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        """One change of the config at a time, after the start and before the stop."""
        async with self._changing:
            if self._stopped:
                raise DatapathError("the daemon is stopping")
            yield

    async def reload(self) -> list[str]:
        """Put the file in force as it is now, and end what was done with ``--runtime``.

        Returns:
            One line for each change.

        Raises:
            ConfigError: the file has errors; nothing has changed.
            NotTaken: the config is in force, but not in the datapath.
            DatapathError: the daemon is stopping.
        """
        async with self._change():
            return await self._take(await asyncio.to_thread(self._desired.reread))

    async def edit(self, edit: Edit, *, runtime: bool) -> None:
        """Change the config in force and, unless ``runtime``, the file.

        Raises:
            NotFound, Conflict, ConfigError: nothing has changed.
            NotTaken, DatapathError: as for ``reload``.
        """
        async with self._change():
            await self._edit(edit, runtime=runtime)

    async def enable(self, service: str, address: Endpoint, *, runtime: bool) -> bool:
        """Give a drained backend the weight it had; False if that is not known, and it has 1 now.

        Raises:
            NotFound, Conflict, ConfigError, NotTaken, DatapathError: as for ``edit``.
        """
        async with self._change():
            drain = self._drains.get((service, address))
            weight = drain.weight if drain else find_backend(self._desired.config, service, address).weight
            await self._edit(SetWeight(service, address, weight or 1), runtime=runtime)
            return weight is not None

    async def flush(self, which: ConnectionFilter) -> int:
        """Reset and forget connections; how many.

        Raises:
            NotFound: there is no such service, or no such backend and no connection of it either.
            DatapathError: the datapath is not running.
        """
        config = self._desired.config
        if which.service is not None:
            find_service(config, which.service)
        count = await self._supervisor.running.flush(which)
        if not count and which.backend is not None:
            find_in_any(config, which.service, which.backend)
        log.info("%d connections flushed by request", count)
        return count

    async def _edit(self, edit: Edit, *, runtime: bool) -> None:
        for tries_left in reversed(range(_EDIT_TRIES)):
            try:
                await self._take(await asyncio.to_thread(self._desired.edited, edit, runtime=runtime))
                return
            except FileChanged:
                if not tries_left:
                    raise

    async def _note_drains(self) -> None:
        self._drains.note(self._desired.config.services, time.monotonic())
        await asyncio.to_thread(self._drain_file.keep, self._drains.weights)

    async def _take(self, change: Change) -> list[str]:
        old = self._desired.config
        await asyncio.to_thread(self._desired.take, change)
        new = self._desired.config
        await self._note_drains()
        capabilities = self._supervisor.latest.capabilities
        changes = describe_gateway_changes(old.gateway, new.gateway, capabilities)
        changes += describe_changes(old.services, new.services)
        for line in changes:
            log.info("%s", line)
        await self._metrics.follow(new.gateway.metrics)
        try:
            await self._convergence.now()
        except DatapathError as error:
            raise NotTaken(changes, error) from None
        return changes
