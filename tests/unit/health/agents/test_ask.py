"""The gateway's side, against agents that do as a test says."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from l4lb.agent.protocol import Refusal, answer, read_question
from l4lb.agent.report import Figures, Report
from l4lb.health.agents.ask import AgentSocket, Answer, NoAnswer
from l4lb.model import Endpoint
from tests.unit.agent.packets import KEY, OTHER_KEY, changed, resealed

DEADLINE = 10.0
REPORT = Report(Figures(cpu=0.5))

React = Callable[[bytes], list[bytes]]


class Reference(asyncio.DatagramProtocol):
    """A tiny agent: reacts to a question with these packets. Keeps what it was asked."""

    def __init__(self, react: React) -> None:
        self.react = react
        self.questions: list[bytes] = []
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport
        self.endpoint = Endpoint.parse("{}:{}".format(*transport.get_extra_info("sockname")))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.questions.append(data)
        self.asker = addr
        for packet in self.react(data):
            self.transport.sendto(packet, addr)


def truthful(data: bytes) -> list[bytes]:
    nonce, key = read_question(data, (KEY,))
    return [answer(nonce, REPORT, key)]


def with_agent(react: React, scenario: Callable[[AgentSocket, Reference], Awaitable[None]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        transport, agent = await loop.create_datagram_endpoint(lambda: Reference(react), ("127.0.0.1", 0))
        asker = AgentSocket()
        try:
            async with asyncio.timeout(DEADLINE):
                await scenario(asker, agent)
        finally:
            asker.close()
            transport.close()

    asyncio.run(run())


def test_an_answer_and_its_time():
    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        told = await asker.ask(agent.endpoint, KEY, DEADLINE)
        assert told.report == REPORT
        assert 0 < told.rtt < DEADLINE
        assert not asker.refused

    with_agent(truthful, scenario)


def test_the_time_is_the_kernels_not_that_at_which_python_looked():
    busy = 0.1

    async def answered_while_busy(asker: AgentSocket, agent: Reference) -> float:
        agent.questions.clear()
        asking = asyncio.ensure_future(asker.ask(agent.endpoint, KEY, DEADLINE))
        while not agent.questions:
            await asyncio.sleep(0)
        time.sleep(busy)  # not waiting for anything: this keeps the event loop from looking
        return (await asking).rtt

    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        # The kernel begins to stamp packets some time after the first socket has asked for it
        # (net_enable_timestamp() of net/core/dev.c).
        while await answered_while_busy(asker, agent) >= busy:
            pass

    with_agent(truthful, scenario)


def test_every_question_has_another_nonce():
    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        for _ in range(10):
            await asker.ask(agent.endpoint, KEY, DEADLINE)
        assert len({question[8:24] for question in agent.questions}) == 10

    with_agent(truthful, scenario)


def test_many_questions_at_once_get_their_own_answers_in_any_order():
    held: list[bytes] = []

    def in_reverse(data: bytes) -> list[bytes]:
        held.append(data)
        if len(held) < 100:
            return []
        answers = []
        for number, question in reversed(list(enumerate(held))):
            nonce, key = read_question(question, (KEY,))
            answers.append(answer(nonce, Report(sequence=number), key))
        return answers

    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        asking = (asker.ask(agent.endpoint, KEY, DEADLINE) for _ in range(100))
        answers = await asyncio.gather(*asking)
        assert [told.report.sequence for told in answers] == list(range(100))

    with_agent(in_reverse, scenario)


def test_a_late_answer_is_thrown_away_and_counted():
    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
            await asker.ask(agent.endpoint, KEY, 0.05)
        late = truthful(agent.questions[0])
        agent.react = lambda data: [*late, *truthful(data)]
        assert (await asker.ask(agent.endpoint, KEY, DEADLINE)).report == REPORT
        assert asker.refused == {Refusal.LATE: 1}

    with_agent(lambda data: [], scenario)


def test_an_answer_counts_once():
    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        await asker.ask(agent.endpoint, KEY, DEADLINE)
        await asker.ask(agent.endpoint, KEY, DEADLINE)
        assert asker.refused[Refusal.UNASKED] >= 1

    with_agent(lambda data: truthful(data) * 2, scenario)


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        (lambda data: b"hello", Refusal.FOREIGN),
        (lambda data: data[:50], Refusal.TRUNCATED),
        (lambda data: data + bytes(1000), Refusal.OVERSIZED),
        (lambda data: changed(data, 4, 9), Refusal.WRONG_VERSION),
        (lambda data: resealed(data, OTHER_KEY), Refusal.UNAUTHENTICATED),
        (lambda data: changed(data, 40, 1), Refusal.UNAUTHENTICATED),
        (lambda data: resealed(changed(data, 8, data[8] ^ 1)), Refusal.UNASKED),
    ],
)
def test_what_anybody_can_send_does_not_end_a_question(spoil: Callable[[bytes], bytes], refusal: Refusal):
    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        assert (await asker.ask(agent.endpoint, KEY, DEADLINE)).report == REPORT
        assert asker.refused == {refusal: 1}

    with_agent(lambda data: [spoil(truthful(data)[0]), *truthful(data)], scenario)


def test_a_question_sent_back_is_not_an_answer():
    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        with pytest.raises(NoAnswer):
            await asker.ask(agent.endpoint, KEY, 0.05)
        assert asker.refused == {Refusal.WRONG_KIND: 1}

    with_agent(lambda data: [data], scenario)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "the agent lies: cpu is not a number"),
        (-1.0, "the agent lies: cpu is negative: -1"),
        (1e9, "the agent lies: cpu is 1e+09, above 1"),
    ],
)
def test_an_agent_that_lies_is_told_by_name_and_at_once(value: float, message: str):
    def lie(data: bytes) -> list[bytes]:
        told = bytearray(truthful(data)[0])
        struct.pack_into("!f", told, 28, value)
        return [resealed(bytes(told))]

    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        with pytest.raises(NoAnswer) as caught:
            await asker.ask(agent.endpoint, KEY, DEADLINE)
        assert str(caught.value) == message
        assert asker.refused == {Refusal.BAD_FIGURE: 1}

    with_agent(lie, scenario)


def test_a_question_that_is_given_up_leaves_nothing_behind():
    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        asking = asyncio.ensure_future(asker.ask(agent.endpoint, KEY, DEADLINE))
        while not agent.questions:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        agent.react = lambda data: [*truthful(agent.questions[0]), *truthful(data)]
        assert isinstance(await asker.ask(agent.endpoint, KEY, DEADLINE), Answer)
        assert asker.refused == {Refusal.LATE: 1}

    with_agent(lambda data: [], scenario)


def test_a_clock_that_jumps_does_not_change_the_time(monkeypatch: pytest.MonkeyPatch):
    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        for jump in (-3600 * 10**9, 3600 * 10**9):
            monkeypatch.setattr("l4lb.health.kernel_time.time.time_ns", lambda jump=jump: real() + jump)
            assert 0 <= (await asker.ask(agent.endpoint, KEY, DEADLINE)).rtt < DEADLINE

    real = time.time_ns
    with_agent(truthful, scenario)


def test_that_the_gateway_was_away_is_no_fault_of_an_agent_that_has_answered_meanwhile():
    def serve(sock: socket.socket) -> None:
        data, asker = sock.recvfrom(4096)
        sock.sendto(truthful(data)[0], asker)

    async def scenario(agent: Endpoint) -> Answer:
        asker = AgentSocket()
        try:
            asking = asyncio.create_task(asker.ask(agent, KEY, 0.3))
            await asyncio.sleep(0)
            time.sleep(0.6)  # as if it had been stopped
            return await asking
        finally:
            asker.close()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        server = threading.Thread(target=serve, args=(sock,))
        server.start()
        assert asyncio.run(scenario(Endpoint.parse("{}:{}".format(*sock.getsockname())))).report == REPORT
        server.join()


def test_the_send_buffer_has_room_for_questions_to_thousands_of_hosts_that_are_gone():
    """Each stays with its neighbour for three seconds; some 280 are a socket's usual share."""

    async def scenario(asker: AgentSocket, agent: Reference) -> None:
        await asker.ask(agent.endpoint, KEY, DEADLINE)
        (sock,) = asker._sockets.values()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 2 * 4_000_000

    if os.geteuid():
        pytest.skip("only root may have a larger send buffer than net.core.wmem_max")
    with_agent(truthful, scenario)
