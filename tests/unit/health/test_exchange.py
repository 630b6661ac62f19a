"""When the first byte of an answer came, on an event loop that is busy with other things."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator

from l4lb.health.exchange import End, exchange
from l4lb.model import Endpoint

BUSY = 0.1
"""Seconds for which the event loop is kept from looking."""

DEADLINE = 10.0


class Line:
    """Asks, and reads until the end of a line."""

    request, awaited, room = b"?", "a line", 1_000

    def __init__(self) -> None:
        self.data = b""

    def receive(self, data: bytes) -> bool:
        self.data += data
        return b"\n" in data


Steps = Callable[[socket.socket], Iterator[None]]
"""What a server does with its connection, a step for every turn of the event loop."""


def first_byte(steps: Steps) -> float:
    """As it is measured. Again until it is less than BUSY, for the kernel begins to stamp packets some time
    after the first socket has asked for it (net_enable_timestamp() of net/core/dev.c)."""

    async def once(server: socket.socket) -> float:
        loop = asyncio.get_running_loop()
        target = Endpoint(b"\x7f\0\0\1", server.getsockname()[1])
        under_way = asyncio.ensure_future(exchange(target, Line(), DEADLINE))
        with (await loop.sock_accept(server))[0] as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert await loop.sock_recv(connection, 10) == b"?"
            for _ in steps(connection):
                await asyncio.sleep(0)
            made = await under_way
        assert made.end is End.ANSWERED
        assert made.first_byte is not None
        return made.first_byte

    async def scenario() -> float:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            async with asyncio.timeout(DEADLINE):
                while (measured := await once(server)) >= BUSY:
                    pass
        return measured

    return asyncio.run(scenario())


def test_it_is_when_the_kernel_received_it_and_not_when_python_looked():
    def busy_at_once(connection: socket.socket) -> Iterator[None]:
        connection.send(b"all of it\n")
        time.sleep(BUSY)
        yield

    assert 0 < first_byte(busy_at_once) < BUSY


def test_what_comes_after_it_was_seen_does_not_count():
    """The event loop sees the first byte, and is busy with something else in its next turn."""

    def busy_later(connection: socket.socket) -> Iterator[None]:
        connection.send(b"o")
        yield
        yield
        time.sleep(BUSY)
        connection.send(b"f it\n")

    assert 0 < first_byte(busy_later) < BUSY
