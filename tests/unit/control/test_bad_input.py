"""What adaptive services make of what is forged, false or contradictory: the costs that a datapath gets."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from l4lb.agent.protocol import Refusal, answer, read_question
from l4lb.agent.report import Figures, Report
from l4lb.control.adaptation import LOOK
from l4lb.health.agents.reports import AgentState, Reports
from l4lb.health.agents.runner import AgentRunner
from l4lb.health.budget import Budget
from l4lb.health.probes.result import Outcome, ProbeKind, ProbeResult
from l4lb.health.probing import LastProbe
from l4lb.model import AgentCheck, Backend, Endpoint, Load, Probes, Service
from tests.unit.agent.packets import KEY, NONCE, OTHER_KEY, resealed
from tests.unit.agent.process import DEADLINE, key_file
from tests.unit.control.harness import CONFIG, WEB1, WEB2, Running, with_daemon
from tests.unit.control.test_adaptation import TWO, VIP, Bench, costs_of
from tests.unit.health.agents.test_ask import Reference

BUSY, IDLE = Report(Figures(cpu=0.99)), Report(Figures(cpu=0.0))
TARGET = ("web", TWO)


def told(question: bytes, report: Report = BUSY) -> bytes:
    nonce, key = read_question(question, (KEY,))
    return answer(nonce, report, key)


def lie(figure: float) -> Callable[[bytes], bytes]:
    def packet(question: bytes) -> bytes:
        data = bytearray(told(question))
        struct.pack_into("!f", data, 28, figure)  # cpu
        return resealed(bytes(data))

    return packet


@pytest.mark.parametrize(
    ("packet", "refusal"),
    [
        (lambda question: resealed(told(question), OTHER_KEY), Refusal.UNAUTHENTICATED),
        (lambda question: answer(NONCE, BUSY, KEY), Refusal.UNASKED),
        (lambda question: told(question)[:-1], Refusal.TRUNCATED),
        (lambda question: told(question) + bytes(1400), Refusal.OVERSIZED),
        (lambda question: question, Refusal.WRONG_KIND),
        (lie(float("nan")), Refusal.BAD_FIGURE),
        (lie(-1.0), Refusal.BAD_FIGURE),
        (lie(1e9), Refusal.BAD_FIGURE),
    ],
    ids=["forged", "replayed", "truncated", "oversized", "reflected", "nan", "negative", "enormous"],
)
def test_what_no_agent_said_or_can_be_costs_a_backend_nothing(
    tmp_path: Path, packet: Callable[[bytes], bytes], refusal: Refusal
):
    """By a real socket: that the second backend is at 99% CPU."""

    async def asked() -> AgentRunner:
        transport, agent = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Reference(lambda question: [packet(question)]), ("127.0.0.1", 0)
        )
        failed: asyncio.Queue[object] = asyncio.Queue()
        runner = AgentRunner(failed.put_nowait, Budget(Probes(floor=1_000.0), time.monotonic()))
        how = AgentCheck(agent.endpoint.port, key=str(key_file(tmp_path)), interval=0.1, timeout=0.05)
        backend = Endpoint(agent.endpoint.ip, TWO.port)
        runner.update([Service("web", VIP, agent=how, backends=(Backend(backend),))])
        async with asyncio.timeout(DEADLINE):
            await failed.get()
        state = runner.reports.look("web", backend, time.monotonic())
        assert state is not None
        assert state.state is AgentState.SILENT
        looked.append(runner.reports.is_hot("web", backend, time.monotonic()))
        await runner.close()
        transport.close()
        return runner

    looked: list[bool] = []
    assert asyncio.run(asked()).refused == {refusal: 1}
    bench = Bench(is_hot=lambda service, backend, now: backend == TWO and looked[0])
    bench.follow()
    bench.answering(5.0)
    (selection,) = (costs["web"] for costs in bench.datapath.costs[-1:])
    assert selection.hot == frozenset()
    one, two = costs_of(bench).values()
    assert one == two


def reported(interval: float = 2.0) -> tuple[Bench, Reports]:
    reports = Reports()
    reports.update({TARGET: AgentCheck(7077, key="/key", interval=interval)})
    bench = Bench(is_hot=reports.is_hot)
    bench.follow()
    return bench, reports


def test_an_agent_that_flaps_is_left_for_last_all_the_time():
    """And the datapath is not told again and again."""
    bench, reports = reported()
    times = []
    for report in [BUSY, IDLE] * 20:
        reports.heard(TARGET, report, bench.now, 0.001)
        bench.look(Load(), Load(), times=20)
        assert bench.datapath.costs[-1]["web"].hot == {1}
        times.append(len(bench.datapath.costs))
    assert all(costs["web"].hot == {1} for costs in bench.datapath.costs)
    assert times[-1] == times[2]  # by then both have got over their slow start


def test_an_agent_that_says_idle_draws_nobody():
    """Its backend costs what the traffic shows of it."""
    bench, reports = reported()
    for _ in range(10):
        reports.heard(TARGET, IDLE, bench.now, 0.001)
        bench.answering(1.0)
    one, two = costs_of(bench).values()
    assert one == two
    reports.heard(TARGET, IDLE, bench.now, 0.001)
    bench.answering(5.0, ratio=8.0)
    one, two = costs_of(bench).values()
    assert two > 2 * one


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 1e9])
def test_a_clock_that_jumps_makes_nobody_dear(jump: float):
    bench, reports = reported()
    reports.heard(TARGET, IDLE, bench.now, 0.001)
    bench.answering(10.0)
    bench.now += jump
    bench.answering(1.0)
    for _ in range(100):
        bench.answering(0.1)
        one, two = costs_of(bench).values()
        assert one == two
    assert bench.datapath.costs[-1]["web"].hot == frozenset()


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 1e9])
def test_after_a_clock_has_jumped_a_slow_one_is_found_out_as_ever(jump: float):
    bench, _ = reported()
    bench.answering(10.0)
    bench.now += jump
    bench.answering(5.0, ratio=8.0)
    one, two = costs_of(bench).values()
    assert two > 2 * one


ADAPTIVE = CONFIG.replace(
    'address = "10.1.0.100:80"', 'address = "10.1.0.100:80"\nscheduler = "adaptive"'
).replace("weight = 2\n", "")


def probed(outcome: Outcome) -> LastProbe:
    return LastProbe(ProbeKind.SYN, ProbeResult(outcome, 0.001, 3), time.monotonic())


async def traffic(l4lb: Running, stuck: Endpoint | None) -> None:
    """Three requests at each look, answered in 10 ms. The one that is stuck has five that wait for ever."""
    began, answers = time.monotonic(), 0
    while True:
        answers += 3
        for backend in (WEB1, WEB2):
            done = min(answers, 60) if backend == stuck else answers
            waits = 5 if done < answers else 0
            waiting = waits * (time.monotonic() - began)
            load = Load(0, 5, waits, waiting, done, 0.01 * done, done)
            l4lb.datapath.load["web", backend] = load
        await asyncio.sleep(0.1)


async def costs_where(l4lb: Running, wanted: Callable[[int, int], bool]) -> None:
    """Wait until the two cost so."""
    async with asyncio.timeout(DEADLINE):
        while True:
            said = await l4lb.get("/v1/explain", service="web", client="10.1.0.7:40000")
            costs = {each["address"]: each["cost"] for each in said["candidates"]}
            if wanted(costs[str(WEB1)], costs[str(WEB2)]):
                return
            await asyncio.sleep(0.05)


def test_one_that_answers_probes_and_no_requests_gets_few(tmp_path: Path):
    async def scenario(l4lb: Running) -> None:
        l4lb.prober.results = {("web", each): probed(Outcome.ANSWERED) for each in (WEB1, WEB2)}
        going = asyncio.create_task(traffic(l4lb, stuck=WEB2))
        await costs_where(l4lb, lambda one, two: one == two)
        await costs_where(l4lb, lambda one, two: two > 2 * one)
        going.cancel()

    with_daemon(tmp_path, scenario, ADAPTIVE)


def test_one_that_answers_requests_and_no_probes_gets_its_share(tmp_path: Path):
    async def scenario(l4lb: Running) -> None:
        l4lb.prober.results = {("web", WEB1): probed(Outcome.ANSWERED), ("web", WEB2): probed(Outcome.LOST)}
        going = asyncio.create_task(traffic(l4lb, stuck=None))
        for _ in range(20):
            await costs_where(l4lb, lambda one, two: one == two)
            await asyncio.sleep(LOOK)
            assert all(len(set(dict(told["web"].costs).values())) == 1 for told in l4lb.datapath.costs)
        backends = (await l4lb.get("/v1/backends", service="web"))["backends"]
        assert [each["probe"]["outcome"] for each in backends] == ["answered", "lost"]
        going.cancel()

    with_daemon(tmp_path, scenario, ADAPTIVE)
