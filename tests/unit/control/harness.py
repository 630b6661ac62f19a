"""A daemon in this process, on fakes, with its API on a real unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from l4lb.agent.report import Report
from l4lb.control.control_plane import Edges
from l4lb.control.daemon import Daemon
from l4lb.control.desired import DesiredState
from l4lb.control.down_file import DownFile
from l4lb.control.drain_file import DrainFile
from l4lb.control.host_checks import Sysctls
from l4lb.control.lock import Lock, claim_socket
from l4lb.health.agents.ask import Answer, NoAnswer
from l4lb.health.agents.runner import AgentRunner, OnNews
from l4lb.health.budget import Budget
from l4lb.model import AgentCheck, Endpoint
from tests.unit.control.fake_datapath import DEADLINE, FakeDatapath
from tests.unit.control.fake_host import FakeHealth, FakeMetrics, FakeProber, FakeVips, FakeWatch

CONFIG = """\
# The shop.
[[services]]
name = "web"
address = "10.1.0.100:80"  # announced by us

[[services.backends]]
address = "10.2.0.11:80"   # rack 1

[[services.backends]]
address = "10.2.0.12:80"
weight = 2

[[services]]
name = "dns"
address = "[2001:db8:1::64]:53"
protocol = "udp"
nat = "full"

[[services.backends]]
address = "[2001:db8:2::b]:53"
"""

WEB1, WEB2, DNS1 = map(Endpoint.parse, ("10.2.0.11:80", "10.2.0.12:80", "[2001:db8:2::b]:53"))


class Running:
    """A daemon, all it stands on, and a client."""

    def __init__(self, directory: Path, text: str = CONFIG) -> None:
        self.config = directory / "l4lb.toml"
        self.config.write_text(text)
        self.socket = directory / "run" / "l4lb.sock"
        self.watch, self.vips = FakeWatch(), FakeVips()
        self.sysctls = Sysctls()
        self.attached_before: set[int] = set()
        self.code_has_changed = False
        self.datapaths = [FakeDatapath()]
        self._unused = list(self.datapaths)
        self.started: list[int] = []  # how many plans the datapath had when it was told
        self.health: FakeHealth
        self.agents: dict[str, Report] = {}  # backend's address and agent's port -> what it says
        self.asking: AgentRunner
        self.prober: FakeProber
        self.metrics: FakeMetrics
        self.task: asyncio.Task[None]
        self._session: aiohttp.ClientSession

    @property
    def datapath(self) -> FakeDatapath:
        """The first one."""
        return self.datapaths[0]

    def add_datapath(self) -> FakeDatapath:
        """One more, for when the one before has died."""
        self.datapaths.append(FakeDatapath())
        self._unused.append(self.datapaths[-1])
        return self.datapaths[-1]

    def _make_health(self, on_change: Any) -> FakeHealth:
        self.health = FakeHealth(on_change)
        return self.health

    def _make_agents(self, on_news: OnNews, budget: Budget) -> AgentRunner:
        self.asking = AgentRunner(on_news, budget, ask=self._ask_agent)
        return self.asking

    async def _ask_agent(self, endpoint: Endpoint, how: AgentCheck) -> Answer:
        if (report := self.agents.get(str(endpoint))) is None:
            raise NoAnswer("nobody there")
        return Answer(report, 0.001)

    def _make_prober(self, counters: Any, health: Any, shunned: Any, budget: Any) -> FakeProber:
        self.prober = FakeProber(counters, health)
        return self.prober

    def _make_metrics(self, snapshot: Any) -> FakeMetrics:
        self.metrics = FakeMetrics(snapshot)
        return self.metrics

    def edges(self) -> Edges:
        return Edges(
            self.watch,
            self.vips,
            lambda: self.vips.ours,
            lambda config: self._unused.pop(0),
            lambda: self.attached_before,
            DrainFile(self.socket.with_name("l4lb.drains")),
            DownFile(self.socket.with_name("l4lb.down")),
            lambda: self.code_has_changed,
            self._make_health,
            lambda interfaces: self.sysctls,
            self._make_agents,
            self._make_prober,
            self._make_metrics,
        )

    def daemon(self) -> Daemon:
        control_socket = claim_socket(self.socket)
        # The namespace's lock is for real daemons; tests may run beside one.
        lock = Lock.take(self.socket.with_name("test.lock"), wait=False)
        return Daemon(DesiredState(self.config), self.edges(), control_socket, lock, self._on_start)

    def _on_start(self) -> None:
        self.started.append(len(self.datapath.plans))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Running]:
        self.task = asyncio.create_task(self.daemon().serve())
        connector = aiohttp.UnixConnector(str(self.socket))
        async with aiohttp.ClientSession("http://l4lb", connector=connector) as self._session:
            await self.get("/v1/status")  # answered once it is ready
            yield self
            if self.socket.exists():
                await self.call("POST", "/v1/stop")
        await self.ended()

    async def ended(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.task

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        async with self._session.request(method, path, json=body, params=query, timeout=timeout) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str, **query: str) -> Any:
        """The answer to a GET, which must succeed."""
        status, answer = await self.call("GET", path, **query)
        assert status == 200, answer
        return answer

    async def change(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer to a change, which must succeed."""
        status, answer = await self.call(method, path, body, **query)
        assert status == 200, answer
        return answer

    async def refused(
        self, method: str, path: str, body: Any = None, **query: str
    ) -> tuple[int, list[str]]:
        """The status and lines of an error."""
        status, answer = await self.call(method, path, body, **query)
        assert status >= 400
        assert answer.keys() == {"errors"}
        return status, answer["errors"]

    def weights(self) -> dict[str, int]:
        """What the datapath chooses from: backend -> how many slots of its table."""
        return {
            str(backend.address): service.selection.slots.count(index)
            for service in self.datapath.plan.services
            for index, backend in enumerate(service.backends)
        }


def backend_path(service: str, address: str) -> str:
    """As a client writes it: percent-encoded."""
    return f"/v1/services/{service}/backends/{quote(address, safe='')}"


WEB1_PATH = backend_path("web", "10.2.0.11:80")
NEW_PATH = backend_path("web", "10.2.0.13:80")


def with_daemon(
    directory: Path, scenario: Callable[[Running], Awaitable[None]], text: str = CONFIG
) -> Running:
    """Run a scenario against a daemon; it is stopped at the end."""
    running = Running(directory, text)

    async def run() -> None:
        async with running.serving():
            await scenario(running)

    asyncio.run(run())
    return running
