"""The check that asks an agent: real questions on loopback."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from l4lb.agent.haproxy_line import write
from l4lb.agent.line_server import LineServer
from l4lb.agent.protocol import Refusal
from l4lb.agent.report import Administrative, Operating, Report
from l4lb.health.agent_check import check_agent
from l4lb.health.rise_fall import Health, HealthState, Outcome, Result
from l4lb.health.runner import HealthRunner
from l4lb.model import AgentCheck, Backend, Endpoint, HealthCheck, Service
from tests.unit.agent.packets import KEY, OTHER_KEY
from tests.unit.agent.process import DEADLINE, free_port, key_file
from tests.unit.health.agents.test_ask import Reference, truthful

CHECK = HealthCheck("agent", timeout=DEADLINE)


def checked_line(report: Report) -> Result:
    async def run() -> Result:
        address = Endpoint.parse(f"127.0.0.1:{free_port()}")
        server = await LineServer(lambda: write(report)).listen(address)
        async with server:
            return await check_agent(address, CHECK, AgentCheck(address.port, "tcp"))

    return asyncio.run(run())


@pytest.mark.parametrize(
    "report", [Report(), Report(weight=0.01), Report(administrative=Administrative.DRAIN)]
)
def test_a_backend_that_its_agent_does_not_object_to_passes(report: Report):
    result = checked_line(report)
    assert (result.outcome, result.reason) == (Outcome.PASSED, "")
    assert result.latency is not None


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (Report(operating=Operating.DOWN, note="disk full"), "agent: down: disk full"),
        (Report(operating=Operating.FAIL), "agent: fail"),
        (Report(operating=Operating.STOPPED), "agent: stopped"),
        (Report(administrative=Administrative.MAINT), "agent: maint"),
    ],
)
def test_a_backend_that_its_agent_takes_out_fails(report: Report, reason: str):
    assert checked_line(report) == Result(Outcome.FAILED, reason)


def test_nobody_there():
    address = Endpoint.parse(f"127.0.0.1:{free_port()}")
    result = asyncio.run(check_agent(address, CHECK, AgentCheck(address.port, "tcp")))
    assert result == Result(Outcome.FAILED, "agent: connection refused")


def test_a_gateway_without_file_descriptors_says_nothing_of_the_backend(monkeypatch: pytest.MonkeyPatch):
    def none_left(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "whatever")

    async def run() -> Result:
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", none_left)
            return await check_agent(Endpoint.parse("127.0.0.1:9"), CHECK, AgentCheck(9, "tcp"))

    result = asyncio.run(run())
    assert result.outcome is Outcome.UNDECIDED
    assert result.reason == "the gateway cannot check: too many open files"


def checked_packet(key: Path, timeout: float) -> Result:
    async def run() -> Result:
        loop = asyncio.get_running_loop()
        transport, agent = await loop.create_datagram_endpoint(
            lambda: Reference(lambda data: truthful(data) if authentic else []), ("127.0.0.1", 0)
        )
        how = AgentCheck(agent.endpoint.port, key=str(key))
        try:
            return await check_agent(agent.endpoint, replace(CHECK, timeout=timeout), how)
        finally:
            transport.close()

    authentic = KEY.hex() in key.read_text() if key.exists() else False
    return asyncio.run(run())


def test_an_authentic_answer_passes_and_none_fails(tmp_path: Path):
    assert checked_packet(key_file(tmp_path), DEADLINE).outcome is Outcome.PASSED
    assert checked_packet(key_file(tmp_path, OTHER_KEY), 0.1) == Result(
        Outcome.FAILED, "agent: no answer within 0.1 s"
    )


def test_what_is_no_answer_is_counted_by_the_runner(tmp_path: Path):
    async def run() -> None:
        transport, agent = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Reference(lambda data: [b"hello", *truthful(data)]), ("127.0.0.1", 0)
        )
        web = Service(
            "web",
            Endpoint.parse("10.1.0.100:80"),
            health=HealthCheck("agent", interval=0.1, timeout=DEADLINE),
            agent=AgentCheck(agent.endpoint.port, key=str(key_file(tmp_path))),
            backends=(Backend(Endpoint(agent.endpoint.ip, 1)),),
        )
        changed = asyncio.Event()
        runner = HealthRunner(lambda service, backend, health: changed.set())
        runner.update([web])
        async with asyncio.timeout(DEADLINE):
            await changed.wait()
        assert runner.refused == {Refusal.FOREIGN: 1}
        await runner.close()
        transport.close()

    asyncio.run(run())


def test_a_key_that_cannot_be_read_says_nothing_of_the_backend(tmp_path: Path):
    result = checked_packet(tmp_path / "none", DEADLINE)
    assert result.outcome is Outcome.UNDECIDED
    assert result.reason.startswith("the gateway cannot check: ")


def test_the_runner_asks_at_the_agents_port():
    async def run() -> None:
        changes: asyncio.Queue[tuple[str, Health]] = asyncio.Queue()
        address = Endpoint.parse(f"127.0.0.1:{free_port()}")
        stopped = write(Report(operating=Operating.STOPPED))
        backend = Backend(Endpoint(address.ip, 1))  # where nobody listens
        web = Service(
            "web",
            Endpoint.parse("10.1.0.100:80"),
            health=HealthCheck("agent", interval=0.1, timeout=DEADLINE, fall=1, rise=1),
            agent=AgentCheck(address.port, "tcp"),
            backends=(backend,),
        )
        runner = HealthRunner(lambda service, _, health: changes.put_nowait((service, health)))
        line = write(Report())
        async with await LineServer(lambda: line).listen(address), asyncio.timeout(DEADLINE):
            runner.update([web])
            name, health = await changes.get()
            assert (name, health.state) == ("web", HealthState.UP)
            line = stopped
            _, health = await changes.get()
            assert (health.state, health.reason) == (HealthState.DOWN, "agent: stopped")
            await runner.close()

    asyncio.run(run())
