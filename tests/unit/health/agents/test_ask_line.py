"""Asking an agent of HAProxy, against small servers on loopback."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from l4lb.agent.haproxy_line import Line
from l4lb.agent.report import Administrative, Operating
from l4lb.health.agents.ask import NoAnswer
from l4lb.health.agents.ask_line import ask_line
from l4lb.model import Endpoint

DEADLINE = 10.0


def asked(*parts: bytes, stay: bool = False, timeout: float = DEADLINE) -> Line:
    """Ask a server that sends these parts and closes, or stays silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            if stay:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort() if stay else writer.close()

    async def run() -> Line:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            told = await ask_line(Endpoint.parse("{}:{}".format(*server.sockets[0].getsockname())), timeout)
            assert 0 < told.rtt < timeout
            return told.line

    return asyncio.run(run())


def test_a_line_is_read_without_waiting_for_the_end_of_the_connection():
    assert asked(b"up 75%\n", stay=True) == Line(operating=Operating.UP, percentage=75)


def test_a_line_in_parts():
    assert asked(b"dra", b"in\r", b"\nmore") == Line(Administrative.DRAIN)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "not an agent's line: the line has no end"),
        ((b"up",), "not an agent's line: the line has no end"),
        ((b"x" * 100_000,), "not an agent's line: no end of the line within 1024 bytes"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), "not an agent's line: 'SSH-2.0-OpenSSH_9.2' is not a word"),
    ],
)
def test_what_is_no_line(parts: tuple[bytes, ...], message: str):
    with pytest.raises(NoAnswer) as caught:
        asked(*parts)
    assert str(caught.value).startswith(message)


def test_a_line_byte_by_byte_is_given_up():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof() and not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.005)

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            await ask_line(Endpoint.parse("{}:{}".format(*server.sockets[0].getsockname())), DEADLINE)

    with pytest.raises(NoAnswer, match="packets without the agent's line, 24 are waited for") as caught:
        asyncio.run(run())
    assert caught.value.wrong
    assert 24 < caught.value.packets < 100


def test_what_the_gateway_cannot_do_is_not_the_agents_silence(monkeypatch: pytest.MonkeyPatch):
    async def connect(*_: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "whatever")

    async def run() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
        await ask_line(Endpoint.parse("127.0.0.1:9"), DEADLINE)

    with pytest.raises(OSError, match="whatever") as caught:
        asyncio.run(run())
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_server_that_says_nothing():
    with pytest.raises(NoAnswer, match=r"timeout after 0\.1 s while waiting for the agent's line"):
        asked(stay=True, timeout=0.1)


def test_nobody_there():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswer, match=r"^connection refused$"):
            asyncio.run(ask_line(Endpoint.parse("{}:{}".format(*held.getsockname())), DEADLINE))
