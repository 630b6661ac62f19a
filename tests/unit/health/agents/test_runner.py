"""Who is asked when, on an event loop whose clock jumps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from l4lb.agent.haproxy_line import Line
from l4lb.agent.keys import BadKeyFile
from l4lb.agent.protocol import SIZE, Refusal
from l4lb.agent.report import Administrative, Figures, Report
from l4lb.health.agents.ask import Answer, NoAnswer
from l4lb.health.agents.ask_line import LineAnswer
from l4lb.health.agents.reports import AgentState
from l4lb.health.agents.runner import AgentRunner
from l4lb.health.budget import Budget, with_agents
from l4lb.model import AgentCheck, Backend, BackendKey, Endpoint, Probes, Service
from tests.unit.agent.packets import changed
from tests.unit.agent.process import DEADLINE, key_file
from tests.unit.health.agents.test_ask import Reference, truthful
from tests.unit.health.conftest import run
from tests.unit.health.runner_bench import VIP

__all__ = ["run"]

Run = Callable[[Coroutine[Any, Any, None]], None]

A, B = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("10.2.0.12:80")
AGENT = AgentCheck(7077, key="/key", interval=2.0, timeout=1.0)
AGENT_OF_A, AGENT_OF_B = Endpoint.parse("10.2.0.11:7077"), Endpoint.parse("10.2.0.12:7077")
PLENTY = Probes(floor=1_000.0)
GOOD = Answer(Report(Figures(cpu=0.5)), 0.001)


def service(*backends: Endpoint, name: str = "web", agent: AgentCheck | None = AGENT) -> Service:
    return Service(name, VIP, agent=agent, backends=tuple(map(Backend, backends)))


class Agents:
    """Agents that answer as set, and when they were asked."""

    def __init__(self, limits: Probes = PLENTY) -> None:
        self.answer: dict[Endpoint, Answer | LineAnswer | Exception] = {}
        self.asked: list[tuple[float, Endpoint]] = []
        self.news: list[BackendKey] = []
        clock = asyncio.get_running_loop().time
        self.budget = Budget(limits, clock())
        self.runner = AgentRunner(self.news.append, self.budget, clock, random=Random(7), ask=self.ask)

    async def ask(self, endpoint: Endpoint, how: AgentCheck) -> Answer | LineAnswer:
        self.asked.append((asyncio.get_running_loop().time(), endpoint))
        await asyncio.sleep(0.01)
        answer = self.answer.get(endpoint, GOOD)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def state(self, backend: Endpoint = A, name: str = "web") -> tuple[AgentState, str]:
        sight = self.runner.reports.look(name, backend, asyncio.get_running_loop().time())
        assert sight is not None
        return sight.state, sight.reason


@asynccontextmanager
async def agents(*services: Service, limits: Probes = PLENTY):
    made = Agents(limits)
    made.runner.update(services)
    try:
        yield made
    finally:
        await made.runner.close()


def test_agents_are_asked_at_their_interval_with_jitter(run: Run):
    async def scenario() -> None:
        async with agents(service(A, B)) as made:
            await asyncio.sleep(60)
            for endpoint in (AGENT_OF_A, AGENT_OF_B):
                times = [when for when, asked in made.asked if asked == endpoint]
                gaps = {later - before for before, later in pairwise(times)}
                assert 1.79 < min(gaps) < max(gaps) < 2.21
                assert len(gaps) > 5
            now = asyncio.get_running_loop().time()
            assert made.runner.reports.look("web", A, now).report == GOOD.report

    run(scenario())


SELDOM = replace(AGENT, interval=600.0)


def test_of_whom_nothing_is_known_is_asked_within_a_second_and_then_at_the_interval(run: Run):
    async def scenario() -> None:
        async with agents(service(A, B, agent=SELDOM)) as made:
            await asyncio.sleep(1.1)
            assert {endpoint for _, endpoint in made.asked} == {AGENT_OF_A, AGENT_OF_B}
            assert len({when for when, _ in made.asked}) == 2, "spread"
            await asyncio.sleep(50)
            assert len(made.asked) == 2

            made.runner.update([service(A, agent=SELDOM, name="new name"), service(B, agent=SELDOM)])
            await asyncio.sleep(1.1)
            assert [endpoint for _, endpoint in made.asked[2:]] == [AGENT_OF_A]
            assert made.state(name="new name")[0] is AgentState.OK

            made.answer[AGENT_OF_A] = NoAnswer("no answer within 1 s")
            made.runner.update([service(A, agent=SELDOM), service(B, agent=SELDOM)])
            await asyncio.sleep(5)
            made.runner.update([service(A, agent=SELDOM), service(B, agent=SELDOM)])
            await asyncio.sleep(5)
            assert len(made.asked) == 4, "asked once and silent is not asked again at once"

    run(scenario())


def test_an_update_again_and_again_does_not_put_off_the_first_question(run: Run):
    async def scenario() -> None:
        async with agents(service(A, agent=SELDOM)) as made:
            for _ in range(22):
                await asyncio.sleep(0.05)
                made.runner.update([service(A, agent=SELDOM)])
            assert len(made.asked) == 1

    run(scenario())


def test_services_that_ask_alike_share_the_questions(run: Run):
    async def scenario() -> None:
        async with agents(
            service(A), service(A, name="shop"), service(A, name="other", agent=None)
        ) as made:
            await asyncio.sleep(20)
            assert len(made.asked) in range(9, 12)
            assert set(made.news) == {("web", A), ("shop", A)}
            assert made.state(name="shop")[0] is AgentState.OK

    run(scenario())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoAnswer("no answer within 1 s"), "ignored: no answer within 1 s"),
        (BadKeyFile("/key: cannot read the key"), "ignored: /key: cannot read the key"),
        (OSError(101, "whatever"), "ignored: network is unreachable"),
        (OSError(24, "whatever"), "ignored: too many open files"),
    ],
)
def test_an_agent_that_does_not_answer_is_said_to_be_ignored(run: Run, error: Exception, reason: str):
    async def scenario() -> None:
        made = Agents()
        made.answer[AGENT_OF_A] = error
        made.runner.update([service(A, B)])
        await asyncio.sleep(5)
        assert made.state(A) == (AgentState.SILENT, reason)
        assert made.state(B) == (AgentState.OK, "")
        await made.runner.close()

    run(scenario())


def test_an_agent_that_falls_silent_is_told_of_when_it_is_stale(run: Run):
    async def scenario() -> None:
        async with agents(service(A)) as made:
            await asyncio.sleep(5)
            made.answer[AGENT_OF_A] = NoAnswer("no answer within 1 s")
            await asyncio.sleep(20)
            state, reason = made.state()
            assert state is AgentState.STALE
            assert reason.endswith("s old: no answer within 1 s")

    run(scenario())


def test_a_line_is_added_to_what_is_known(run: Run):
    async def scenario() -> None:
        async with agents(service(A, agent=replace(AGENT, protocol="tcp"))) as made:
            made.answer[AGENT_OF_A] = LineAnswer(Line(Administrative.DRAIN), 0.001, 8)
            await asyncio.sleep(5)
            made.answer[AGENT_OF_A] = LineAnswer(Line(percentage=50), 0.001, 8)
            await asyncio.sleep(5)
            assert made.state() == (AgentState.DRAIN, "")

    run(scenario())


def test_nobody_is_asked_after_an_update_without_them(run: Run):
    async def scenario() -> None:
        async with agents(service(A, B)) as made:
            await asyncio.sleep(5)
            made.runner.update([service(B), service(A, name="other", agent=None)])
            before = len(made.asked)
            await asyncio.sleep(20)
            assert {endpoint for _, endpoint in made.asked[before:]} == {AGENT_OF_B}
            assert made.runner.reports.look("web", A, 0.0) is None

    run(scenario())


MANY = [Endpoint(bytes((10, 2, n >> 8, n & 255)), 80) for n in range(1_000)]


def test_the_floor_has_room_for_the_intervals_that_were_asked_for(run: Run):
    async def scenario() -> None:
        services = [service(A, B), service(A, B, name="shop")]
        async with agents(*services, limits=with_agents(Probes(), services)) as made:
            await asyncio.sleep(60)
            assert len(made.asked) == pytest.approx(60, abs=4)
            assert made.runner.counted.withheld == 0
            assert made.runner.counted.packets == 2 * len(made.asked)

    run(scenario())


def test_a_thousand_agents_stay_below_the_ceiling_and_nobody_is_passed_over(run: Run):
    async def scenario() -> None:
        limits = Probes(ceiling=200.0)
        many = [service(*MANY)]
        async with agents(*many, limits=with_agents(limits, many)) as made:
            await asyncio.sleep(60)
            assert 0.95 * 200 * 60 <= made.runner.counted.packets <= 200 * 60 + limits.burst
            asked = [endpoint for _, endpoint in made.asked]
            assert len(set(asked)) == 1_000
            assert {asked.count(endpoint) for endpoint in set(asked)} <= {5, 6, 7}
            assert made.runner.counted.withheld > 10_000

    run(scenario())


def test_the_word_of_a_thousand_agents_that_are_asked_seldom_does_not_come_and_go(run: Run):
    async def scenario() -> None:
        many = [service(*MANY, agent=replace(AGENT, protocol="tcp"))]  # eight packets a question
        async with agents(*many, limits=with_agents(Probes(), many)) as made:
            for backend in MANY:
                drain = LineAnswer(Line(Administrative.DRAIN), 0.001, 8)
                made.answer[Endpoint(backend.ip, AGENT.port)] = drain
            await asyncio.sleep(20)  # until each was asked
            for _ in range(100):
                await asyncio.sleep(0.5)
                assert {made.state(backend)[0] for backend in MANY} == {AgentState.DRAIN}
            times = [when for when, asked in made.asked if asked.ip == MANY[7].ip]
            assert min(later - before for before, later in pairwise(times)) > 7

            made.answer[Endpoint(MANY[7].ip, AGENT.port)] = NoAnswer("no answer within 1 s")
            await asyncio.sleep(3 * 10)
            assert made.state(MANY[7])[0] is AgentState.STALE

    run(scenario())


def test_an_answer_of_more_packets_than_expected_is_paid_too(run: Run):
    async def scenario() -> None:
        line = [service(A, agent=replace(AGENT, protocol="tcp", interval=0.5))]
        async with agents(*line, limits=Probes(floor=8.0)) as made:
            made.answer[AGENT_OF_A] = LineAnswer(Line(percentage=50), 0.001, 80)
            await asyncio.sleep(100)
            assert made.runner.counted.packets <= 100 * 8 + 80

    run(scenario())


def test_what_has_no_answer_is_counted_as_asked(run: Run):
    async def scenario() -> None:
        async with agents(service(A)) as made:
            made.answer[AGENT_OF_A] = NoAnswer("no answer within 1 s")
            await asyncio.sleep(20)
            counted = made.runner.counted
            assert (counted.answered, counted.packets) == (0, counted.asked)
            assert counted.asked == len(made.asked)

    run(scenario())


def test_what_is_no_answer_of_an_agent_is_counted(tmp_path: Path):
    """By a real socket."""

    def forged_and_true(data: bytes) -> list[bytes]:
        (told,) = truthful(data)
        return [changed(told, SIZE - 1, told[-1] ^ 1), told]

    async def scenario() -> None:
        transport, agent = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Reference(forged_and_true), ("127.0.0.1", 0)
        )
        news: asyncio.Queue[BackendKey] = asyncio.Queue()
        runner = AgentRunner(news.put_nowait, Budget(PLENTY, time.monotonic()))
        how = AgentCheck(agent.endpoint.port, key=str(key_file(tmp_path)), interval=0.1)
        runner.update([service(Endpoint(agent.endpoint.ip, 80), agent=how)])
        async with asyncio.timeout(DEADLINE):
            await news.get()
        assert runner.refused == {Refusal.UNAUTHENTICATED: 1}
        await runner.close()
        transport.close()

    asyncio.run(scenario())
