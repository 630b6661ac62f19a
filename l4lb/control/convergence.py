"""Makes what is be what should be: the datapath's plan and interfaces, the VIPs, the warnings.

One pass looks at everything - the config in force, the health of the backends, the kernel's links
and routes - and changes only what differs, so it does not matter what a pass was asked for. Many
reasons at once (a hundred backends go down together) make one pass.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from l4lb.control.adaptation import ADAPTIVE, Adaptation
from l4lb.control.config.config import Config
from l4lb.control.desired import DesiredState
from l4lb.control.down_file import DownFile
from l4lb.control.health_log import HealthLog
from l4lb.control.host_checks import Sysctls, key_problems, warnings_for
from l4lb.control.host_view import HostView, look
from l4lb.control.kept_out import KeptOut
from l4lb.control.reconcile import SelectionCache, candidates_for, plan_for, weighed
from l4lb.control.standing_warnings import StandingWarnings
from l4lb.control.supervisor import DatapathSupervisor
from l4lb.control.unserved import unserved
from l4lb.datapath.base import DatapathError
from l4lb.health.agents.reports import Sight, Wish
from l4lb.health.agents.runner import AgentRunner, OnNews
from l4lb.health.budget import Budget, for_probes, with_agents
from l4lb.health.prober import Prober
from l4lb.health.rise_fall import Health, HealthState
from l4lb.health.runner import HealthRunner, OnChange
from l4lb.model import BackendKey, Counters, Endpoint, Plan, Probes, Service, ServicePlan
from l4lb.netlink.state import Change
from l4lb.netlink.vips import VipError, VipKeeper
from l4lb.netlink.watch import KernelWatch
from l4lb.schedulers import Candidate

log = logging.getLogger(__name__)

_SETTLE: Final = 0.02
"""Seconds from the first reason for a pass to the pass, for others to join."""


_FIRST_RETRY: Final = 1.0
_LONGEST_RETRY: Final = 30.0
"""Seconds from a pass that failed to the next one that nothing else has asked for."""


MakeProber = Callable[
    [
        Callable[[], Awaitable[Counters | None]],
        Callable[[str, Endpoint], Health],
        Callable[[str, Endpoint], bool],
        Budget,
    ],
    Prober,
]
"""From what tells of the datapath's counters, of a backend's health, whether it is shunned, and the budget;
see ``Prober``."""

MakeAgents = Callable[[OnNews, Budget], AgentRunner]
"""See ``AgentRunner``."""


class Convergence:
    """The passes, one at a time."""

    def __init__(
        self,
        desired: DesiredState,
        *,
        watch: KernelWatch,
        vips: VipKeeper,
        supervisor: DatapathSupervisor,
        attached_before: Callable[[], Collection[int]],
        make_health: Callable[[OnChange], HealthRunner],
        down_file: DownFile,
        make_agents: MakeAgents,
        make_prober: MakeProber,
        read_sysctls: Callable[[Iterable[str]], Sysctls],
    ) -> None:
        self._desired = desired
        self._watch = watch
        self._vips = vips
        self._supervisor = supervisor
        self._attached_before = attached_before
        self._read_sysctls = read_sysctls
        self._health = make_health(self._health_changed)
        self._down_file = down_file
        self._health.begin_with(down_file.kept)
        self._budget = Budget(Probes(), time.monotonic())
        self._agents = make_agents(self._agent_news, self._budget)
        self._sights: Mapping[BackendKey, Sight] = {}  # of agents, as the last plan has them
        self._kept_out = KeptOut()
        self._adaptation = Adaptation(
            lambda: supervisor.running,
            self._agents.reports.is_hot,
            lambda service, backend: self._prober.last(service, backend),
        )
        self._prober = make_prober(self._counters, self._health.state, self._adaptation.shuns, self._budget)
        self._health_log = HealthLog()
        self._cache = SelectionCache()
        self._warnings = StandingWarnings()
        self._view: HostView | None = None
        self._plans: Mapping[str, ServicePlan] = {}  # that the datapath has, by name
        self._unserved: Mapping[str, str] = {}  # services that no backend serves -> what to say of them
        self._vip_problems: tuple[str, ...] = ()
        self._not_taken: tuple[str, ...] = ()  # why the last pass failed, one line; none if it did not
        self._asked = asyncio.Event()
        self._retry = 0.0
        self._lock = asyncio.Lock()

    @property
    def health(self) -> HealthRunner:
        """The health checks of the backends in force."""
        return self._health

    @property
    def agents(self) -> AgentRunner:
        """Those who ask the agents of the backends in force."""
        return self._agents

    @property
    def kept_out(self) -> KeptOut:
        """The backends that agents keep out of the choice."""
        return self._kept_out

    @property
    def prober(self) -> Prober:
        """The probes of the backends in force."""
        return self._prober

    @property
    def budget(self) -> Budget:
        """What the probes of all backends and the questions to their agents are paid from."""
        return self._budget

    @property
    def adaptation(self) -> Adaptation:
        """The costs of the services whose scheduler is adaptive."""
        return self._adaptation

    def plan_of(self, service: str) -> ServicePlan:
        """What the datapath has of a service.

        Raises:
            DatapathError: nothing yet.
        """
        if (plan := self._plans.get(service)) is None:
            raise DatapathError(f"the datapath does not have service '{service}' yet")
        return self._adaptation.with_costs(plan)

    def why_unserved(self, service: str) -> str | None:
        """A line on a service whose new connections are taken by no backend that is up, as the last pass
        found it; None of another one."""
        return self._unserved.get(service)

    def look_for_warnings(self) -> tuple[str, ...]:
        """What stands in the way now, one line each; what is new among it is logged."""
        if self._view is not None:
            found = warnings_for(
                self._desired.config,
                self._view,
                self._read_sysctls(self._view.interfaces),
                foreign_rules=self._watch.foreign_rules,
                withdrawn=self._vips.withdrawn,
                capabilities=self._supervisor.latest.capabilities,
                at_start=self._desired.at_start,
            )
            found += [*self._vip_problems, *key_problems(self._desired.config.services)]
            self._warnings.replace([*self._not_taken, *found, *self._unserved.values()])
        return self._warnings.lines

    async def begin(self) -> None:
        """The first pass, which starts the datapath.

        Raises:
            DatapathError: it cannot run here.
        """
        await self._pass(self._supervisor.start)

    async def now(self) -> None:
        """A pass, with all that has changed until now.

        Raises:
            DatapathError: the datapath did not take the plan; the VIPs are as they were. There will
                be another pass.
        """
        async with self._lock:
            try:
                await self._pass(self._supervisor.update)
            except Exception as error:
                why = str(error) if isinstance(error, DatapathError) else f"internal error: {error!r}"
                line = f"the datapath has not taken what is in force, and is asked again: {why}"
                self._not_taken = (line,)
                self._retry = min(2 * self._retry, _LONGEST_RETRY) or _FIRST_RETRY
                asyncio.get_running_loop().call_later(self._retry, self.ask)
                self.look_for_warnings()
                raise
            self._retry = 0.0

    async def _pass(self, hand_over: Callable[[Sequence[str], Plan], Awaitable[None]]) -> None:
        config = self._desired.config
        self._health.update(config.services)
        limits = config.gateway.probes
        kept = for_probes(limits)
        self._budget.change(with_agents(limits, config.services), time.monotonic(), kept)
        self._agents.update(config.services)
        services = self._weighed(config)
        self._prober.update(services, enabled=config.gateway.probes.enabled)
        # Counted before the datapath knows: it will reset them.
        self._health_log.write(await self._counters() if self._health_log.concerns_connections else None)
        self._view, compiled, adaptive = await self._decide(config, services)
        async with self._adaptation.following(compiled, adaptive) as plan:
            await hand_over(self._view.interfaces, plan)
        self._plans = {each.name: each for each in plan.services}
        # Not in a thread: it would go on there when a stop cancels this and removes the file.
        self._down_file.keep(self._health.downs())
        self._note_kept_out(config)
        await self._keep_vips(config)
        self._not_taken = ()
        self.look_for_warnings()

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

    def _agent_news(self, target: BackendKey) -> None:
        sight, before = self._agents.reports.look(*target, time.monotonic()), self._sights.get(target)
        if _wish(sight) != _wish(before):
            self.ask()

    async def run(self) -> None:
        """Make the passes that were asked for, until cancelled."""
        while True:
            await self._asked.wait()
            await asyncio.sleep(_SETTLE)
            self._asked.clear()
            try:
                await self.now()
            except DatapathError:
                continue  # a warning stands, and was logged when it began
            except Exception:
                log.exception("a change was not brought to the datapath")

    async def _decide(
        self, config: Config, services: Sequence[Service]
    ) -> tuple[HostView, Plan, Mapping[str, tuple[Candidate, ...]]]:
        """Where the datapath should work, at what, and the candidates of adaptive services."""
        state = self._watch.state
        healths: dict[BackendKey, Health] = {
            (service.name, backend.address): self._health.state(service.name, backend.address)
            for service in config.services
            for backend in service.backends
        }
        unusable = {target for target, health in healths.items() if not health.usable}
        down = {target for target in unusable if healths[target].state is HealthState.DOWN}
        avoided = {target for target, sight in self._sights.items() if sight.wish.down}

        def decide() -> tuple[HostView, Plan, Mapping[str, str]]:
            attached = self._attached_before() if self._view is None else ()
            view = look(config, state, self._view, attached)
            plan = plan_for(
                services,
                config.gateway,
                unusable=unusable,
                down=down,
                sources=view.sources,
                cache=self._cache,
                avoided=avoided,
            )
            return view, plan, unserved(plan, unusable)

        # In a thread: compiling a Maglev table would hold up the checks and the API.
        view, plan, self._unserved = await asyncio.to_thread(decide)
        adaptive = {
            service.name: candidates_for(service, unusable=unusable, sources=view.sources, avoided=avoided)
            for service in services
            if service.scheduler == ADAPTIVE
        }
        return view, plan, adaptive

    def _weighed(self, config: Config) -> tuple[Service, ...]:
        """The services with what agents want of their backends' weights."""
        now = time.monotonic()
        self._sights = {
            (service.name, backend.address): sight
            for service in config.services
            for backend in service.backends
            if (sight := self._agents.reports.look(service.name, backend.address, now)) is not None
        }
        shares = {target: sight.share for target, sight in self._sights.items() if sight.share != 1}
        return weighed(config.services, shares)

    def _note_kept_out(self, config: Config) -> None:
        weighty = {
            (service.name, backend.address)
            for service in config.services
            for backend in service.backends
            if backend.weight > 0
        }
        sights = {target: sight for target, sight in self._sights.items() if target in weighty}
        # Tables are long: only of those services where it matters who is in them.
        concerned = {service for (service, _), sight in sights.items() if sight.wish.none}
        chosen = {
            (name, plan.backends[index].address)
            for name, plan in self._plans.items()
            if name in concerned
            for index in plan.selection.chosen
        }
        self._kept_out.note(sights, chosen, time.monotonic())

    async def _keep_vips(self, config: Config) -> None:
        """Bring the VIPs to what the config says, once the datapath takes their packets: before, the
        host's stack would reset the first connections."""
        gateway = config.gateway
        vips = {service.address.ip: gateway.vip_interface for service in config.services}
        try:
            await self._vips.keep(vips if gateway.manage_vips else {})
        except VipError as error:
            # Its interface may be about to appear: the change of links that it brings tries again.
            self._vip_problems = error.problems
        else:
            self._vip_problems = ()

    async def _counters(self) -> Counters | None:
        try:
            return await self._supervisor.running.counters()
        except DatapathError:
            return None


def _wish(sight: Sight | None) -> Wish:
    return Wish() if sight is None else sight.wish
