"""A datapath that moves no packets and remembers what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from l4lb.datapath.base import Capabilities, ConnectionFilter, DatapathError
from l4lb.model import BackendKey, ConnectionInfo, Costs, Counters, Decision, Endpoint, Load, Plan, Recalled

DEADLINE = 10.0
"""Seconds that anything expected may take."""


class FakeDatapath:
    """Fulfils ``Datapath``. ``refusal`` makes everything fail with that reason, ``die`` ends it."""

    capabilities = Capabilities(name="fake", restores_connections=True)

    def __init__(self) -> None:
        self.attached: list[tuple[str, ...]] = []
        self.plans: list[Plan] = []
        self.held: bool | None = None  # how it was closed, None while it is not
        self.refusal: str | None = None
        self.took_over = False
        self.left: str | None = None  # why it does not close cleanly
        self.count = Counters({}, {}, {})
        self.load: dict[BackendKey, Load] = {}
        self.costs: list[dict[str, Costs]] = []
        self.decided: list[Decision] = []
        self.recalled: dict[tuple[str, Endpoint], Recalled] = {}  # by service and client
        self.known: list[ConnectionInfo] = []
        self.flushed: list[ConnectionFilter] = []
        self.asked: list[tuple[ConnectionFilter, int]] = []
        self._died = asyncio.Event()
        self._reason = ""
        self._news = asyncio.Event()

    @property
    def plan(self) -> Plan:
        return self.plans[-1]

    async def plan_where(self, condition: Callable[[Plan], bool]) -> Plan:
        """Wait for a plan of which the condition holds."""
        async with asyncio.timeout(DEADLINE):
            while not (self.plans and condition(self.plan)):
                self._news.clear()
                await self._news.wait()
        return self.plan

    async def interfaces_where(self, condition: Callable[[tuple[str, ...]], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not (self.attached and condition(self.attached[-1])):
                self._news.clear()
                await self._news.wait()

    def die(self, reason: str) -> None:
        self._reason = reason
        self._died.set()

    def _check(self) -> None:
        if self.refusal is not None:
            raise DatapathError(self.refusal)

    async def attach(self, interfaces: Sequence[str]) -> None:
        self._check()
        self.attached.append(tuple(interfaces))
        self._news.set()

    async def apply(self, plan: Plan) -> None:
        self._check()
        self.plans.append(plan)
        self._news.set()

    async def reweigh(self, costs: Mapping[str, Costs]) -> None:
        self._check()
        self.costs.append(dict(costs))
        self._news.set()

    async def loads(self, services: Collection[str]) -> dict[BackendKey, Load]:
        self._check()
        return {target: load for target, load in self.load.items() if target[0] in services}

    async def recall(self, service: str, client: Endpoint) -> Recalled:
        self._check()
        return self.recalled.get((service, client), Recalled())

    async def decisions(self) -> list[Decision]:
        self._check()
        return self.decided

    async def counters(self) -> Counters:
        self._check()
        return self.count

    async def connections(self, which: ConnectionFilter, limit: int) -> tuple[list[ConnectionInfo], int]:
        self._check()
        self.asked.append((which, limit))
        return self.known[:limit], len(self.known)

    async def flush(self, which: ConnectionFilter) -> int:
        self._check()
        self.flushed.append(which)
        return 3

    async def details(self) -> Mapping[str, str]:
        return {"interfaces": ", ".join(self.attached[-1])}

    async def wait_failed(self) -> str:
        await self._died.wait()
        return self._reason

    async def close(self, *, hold: bool) -> None:
        self.held = hold
        if self.left is not None:
            raise DatapathError(self.left)
