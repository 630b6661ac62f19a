"""Asks the agents of all services at their intervals and keeps what they say. Edge: the clock.

Services that have a backend in common and ask its agent alike share the questions. All are paid from the
budget of the probes; what it does not allow at once is asked later, those first who wait longest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from random import Random
from typing import Final

from l4lb.agent.keys import BadKeyFile
from l4lb.agent.protocol import Refusal
from l4lb.health.agents.ask import AgentSocket, Answer, NoAnswer
from l4lb.health.agents.ask_line import LineAnswer
from l4lb.health.agents.configured import ask_agent, why
from l4lb.health.agents.reports import Reports
from l4lb.health.budget import Budget
from l4lb.health.probes.result import ProbeKind
from l4lb.health.repeated import Repeated
from l4lb.health.schedule import Schedule
from l4lb.model import AgentCheck, BackendKey, Endpoint, Service

log = logging.getLogger(__name__)

_AT_ONCE: Final = 1_024
"""Questions under way. All share a socket, so this bounds only how many answers can come at once."""

_SOON: Final = 1.0
"""Seconds in which those are asked that are unasked: until then one that drains gets connections."""

_BROKE: Final = 0.02  # seconds until the budget is asked again

OnNews = Callable[[BackendKey], None]
"""Called when something is new of a target: it has answered, or has not in time."""

Ask = Callable[[Endpoint, AgentCheck], Awaitable[Answer | LineAnswer]]
"""Asks an agent once; raises NoAnswer, OSError or BadKeyFile."""


@dataclass(slots=True)
class QuestionCounters:
    """Since the start. Questions, except where it says packets."""

    asked: int = 0
    answered: int = 0
    withheld: int = 0  # were due and the budget did not allow them
    packets: int = 0  # caused, in both directions


@dataclass(slots=True, eq=False)
class _Agent:
    """One agent that is asked again and again, and the targets it speaks for.

    Compared by identity: one that is removed and one that replaces it are two.
    """

    endpoint: Endpoint
    how: AgentCheck
    targets: tuple[BackendKey, ...] = ()


class AgentRunner:
    """Keeps ``reports`` current."""

    def __init__(
        self,
        on_news: OnNews,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
        *,
        random: Random | None = None,
        ask: Ask | None = None,
    ) -> None:
        """Begin with no services; runs on the event loop that ``update`` is called on.

        Args:
            on_news: called once ``reports`` has it, from the event loop; must not call ``update``.
            budget: what may be spent, by others too.
            clock: seconds, monotonic; the ``now`` of ``reports`` and of the budget.
            random: spreads the questions; by default seeded by the system.
            ask: asks once; by default over the network.
        """
        self.reports: Final = Reports()
        self.counted: Final = QuestionCounters()
        self._budget = budget
        self._on_news = on_news
        self._clock = clock
        self._socket = AgentSocket()
        self._ask = ask or self._ask_network
        self._schedule: Schedule[_Agent] = Schedule(random or Random(), _AT_ONCE)
        self._questions: Repeated[_Agent, Answer | LineAnswer] = Repeated(
            self._schedule, clock, due=self._due, start=self._asked, over=self._over, least_pause=_BROKE
        )
        self._agents: dict[tuple[Endpoint, AgentCheck], _Agent] = {}

    @property
    def refused(self) -> Counter[Refusal]:
        """Packets thrown away because they are no answer of an agent, by reason, since the start."""
        return self._socket.refused

    def update(self, services: Sequence[Service]) -> None:
        """Ask the agents of these services' backends from now on and no others."""
        now = self._clock()
        targets: dict[BackendKey, AgentCheck] = {}
        wanted: dict[tuple[Endpoint, AgentCheck], list[BackendKey]] = {}
        for service in services:
            if service.agent is None:
                continue
            for backend in service.backends:
                target = (service.name, backend.address)
                targets[target] = service.agent
                endpoint = Endpoint(backend.address.ip, service.agent.port)
                wanted.setdefault((endpoint, service.agent), []).append(target)

        self.reports.update(targets)
        for key in self._agents.keys() - wanted.keys():
            self._drop(self._agents.pop(key))
        for key, sharers in wanted.items():
            known = self._agents.get(key)
            new = set(sharers) - set(known.targets if known else ())
            unasked = any(map(self.reports.is_unasked, new))
            if known and unasked:  # a service of another name, for example: its agent is asked at once too
                self._drop(known)
            if known is None or unasked:
                known = self._agents[key] = _Agent(*key)
                self._schedule.add(known, key[1].interval, now, _SOON if unasked else inf)
            known.targets = tuple(sharers)
        self._questions.go_on()

    async def close(self) -> None:
        """Ask nobody any more; returns once the sockets are closed."""
        self.update(())
        await self._questions.wait()
        self._socket.close()

    async def _ask_network(self, endpoint: Endpoint, how: AgentCheck) -> Answer | LineAnswer:
        return await ask_agent(self._socket, endpoint, how)

    def _drop(self, agent: _Agent) -> None:
        agent.targets = ()
        self._questions.drop(agent)

    def _due(self, now: float) -> list[_Agent]:
        self._budget.release()  # whoever waited may be gone; who still does says so
        return self._schedule.start_due(now, partial(self._may_ask, now))

    def _asked(self, agent: _Agent) -> Awaitable[Answer | LineAnswer]:
        return self._ask(agent.endpoint, agent.how)

    def _may_ask(self, now: float, agent: _Agent, due: float) -> bool:
        """Whether the budget has it."""
        if not self._budget.take_first(ProbeKind.of(agent.how).cost, now):
            return False
        self.counted.withheld += int((now - due) / agent.how.interval)
        return True

    def _over(self, agent: _Agent, task: asyncio.Future[Answer | LineAnswer], now: float) -> None:
        self._record(agent, task, now)
        for target in agent.targets:
            self._on_news(target)

    def _record(self, agent: _Agent, task: asyncio.Future[Answer | LineAnswer], now: float) -> None:
        error = task.exception()
        packets = getattr(error if error else task.result(), "packets", 0)
        self._budget.owe_first(max(0, packets - ProbeKind.of(agent.how).cost))
        self.counted.asked += 1
        self.counted.answered += not error
        self.counted.packets += packets
        if error is not None:
            if not isinstance(error, NoAnswer | OSError | BadKeyFile):
                log.error("asking the agent at %s failed", agent.endpoint, exc_info=error)
            for target in agent.targets:
                self.reports.failed(target, why(error))
            return
        answer = task.result()
        for target in agent.targets:
            if isinstance(answer, Answer):
                self.reports.heard(target, answer.report, now, answer.rtt)
            else:
                self.reports.heard_line(target, answer.line, now, answer.rtt)
