"""Agent probes, against agents on loopback that do as a test says."""

import asyncio

import pytest

from l4lb.agent.report import Administrative, Figures, Operating, Report
from l4lb.health.agents.ask import AgentSocket
from l4lb.health.probes import agent
from l4lb.health.probes.result import CannotProbe, Outcome
from l4lb.model import AgentCheck, Endpoint
from tests.unit.agent.packets import KEY
from tests.unit.health.agents.test_ask import Reference, truthful


def probed(react, key, timeout=5.0):
    """One question to an agent that reacts so."""

    async def run():
        loop = asyncio.get_running_loop()
        transport, reference = await loop.create_datagram_endpoint(
            lambda: Reference(react), ("127.0.0.1", 0)
        )
        asker = AgentSocket()
        try:
            how = AgentCheck(reference.endpoint.port, key=str(key), timeout=timeout)
            return await agent.probe(asker, reference.endpoint, how)
        finally:
            asker.close()
            transport.close()

    return asyncio.run(run())


def by_line(line):
    """One question to an agent that says a line."""

    async def serve(reader, writer):
        writer.write(line)
        writer.close()

    async def run():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            endpoint = Endpoint.parse("{}:{}".format(*server.sockets[0].getsockname()))
            return await agent.probe(AgentSocket(), endpoint, AgentCheck(endpoint.port, protocol="tcp"))

    return asyncio.run(run())


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY.hex())
    path.chmod(0o600)
    return path


def test_a_question_and_an_answer_are_two_packets(key):
    result = probed(truthful, key)
    assert (result.outcome, result.packets, result.said) == (Outcome.ANSWERED, 2, "up ready, cpu 50%")
    assert 0 < result.round_trip < 5


def test_without_an_answer_one_packet_was_sent(key):
    result = probed(lambda data: [], key, timeout=0.05)
    assert (result.outcome, result.packets) == (Outcome.LOST, 1)
    assert result.reason == "no answer within 0.05 s"


def test_without_a_key_nothing_can_be_asked(tmp_path):
    with pytest.raises(CannotProbe, match="cannot read the key"):
        probed(truthful, tmp_path / "missing")


def test_a_line_is_the_packets_of_its_connection():
    result = by_line(b"up 75%\n")
    assert (result.outcome, result.said) == (Outcome.ANSWERED, "up ready, weight 75%")
    assert 6 <= result.packets <= 9


def test_what_is_no_line_is_wrong():
    result = by_line(b"SSH-2.0-OpenSSH_9.2\r\n")
    assert result.outcome is Outcome.WRONG
    assert result.packets >= 6


def test_nobody_there_is_no_answer():
    endpoint = Endpoint.parse("127.0.0.1:1")

    async def run():
        return await agent.probe(AgentSocket(), endpoint, AgentCheck(1, protocol="tcp"))

    result = asyncio.run(run())
    assert (result.outcome, result.reason) == (Outcome.LOST, "connection refused")
    assert result.packets == 2


def test_all_that_an_agent_says_is_one_line():
    figures = Figures(cpu=0.12, memory=0.4, load=0.5, queue=0.0, application=0.9)
    down = Report(figures, Administrative.DRAIN, Operating.DOWN, note="disk full")
    assert agent.said(down) == (
        "down drain, cpu 12%, memory 40%, queue 0%, load 0.50 a CPU, application 90% (disk full)"
    )
