"""Clients of all sorts at once; runs on the lab's client, standard library only.

    python3 clients.py SEED '{"ask": [["10.1.0.100", 7000], ...], "greet": ..., "stream": ..., ...}'

The sorts of servers are those of servers.py, each with where it is to be had. When standard input is closed
all stops where it is, and one line of JSON says how often each sort of client did what it is for, and how
often it could not, since backends come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE: Final = 12.0  # seconds
_TOO_LONG: Final = 6.0  # seconds of silence, more than the gateway's timeout of an established connection
_PAUSE: Final = 0.4  # seconds at most between two clients of a worker
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 s

Address = tuple[str, int]
Client = Callable[[Address], Awaitable[None]]


class Connection:
    """One TCP connection, which its ``with`` closes."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def __aenter__(self) -> Connection:
        self.reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.transport.abort()

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def sent(self) -> None:
        await self._writer.drain()

    async def ask(self, milliseconds: int, size: int) -> None:
        """A request and its answer."""
        self.send(b"%d %d answer\n" % (milliseconds, size))
        await self.reader.readexactly(size)

    def reset_on_close(self) -> None:
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
        )


async def asks_once(address: Address) -> None:
    async with Connection(address) as connection:
        await connection.ask(random.randrange(30), random.choice((10, 500, 40_000)))


async def asks_again_and_again(address: Address) -> None:
    async with Connection(address) as connection:
        for _ in range(random.randint(2, 30)):
            await connection.ask(random.randrange(20), 200)
            await asyncio.sleep(random.uniform(0, 0.1))


async def gives_up(address: Address) -> None:
    async with Connection(address) as connection:
        connection.send(b"400 2000 answer\n")
        await asyncio.sleep(random.uniform(0, 0.5))


async def resets(address: Address) -> None:
    async with Connection(address) as connection:
        connection.send(b"400 2000 answer\n")
        await asyncio.sleep(random.uniform(0, 0.3))
        connection.reset_on_close()


async def abandons_its_syn(address: Address) -> None:
    """The SYN/ACK comes to nobody."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client:
        client.setblocking(False)
        client.connect_ex(address)


async def is_left_without_an_answer(address: Address) -> None:
    """The connection times out while a request is outstanding; then the client speaks again."""
    async with Connection(address) as connection:
        connection.send(b"0 0 never\n")
        await asyncio.sleep(_TOO_LONG)
        connection.send(b"0 0 never\n")


async def _is_turned_away(address: Address, how: bytes) -> None:
    async with Connection(address) as connection:
        connection.send(b"50 0 %s\n" % how)
        with contextlib.suppress(ConnectionResetError):
            await connection.reader.read(1)


async def is_reset(address: Address) -> None:
    await _is_turned_away(address, b"reset")


async def is_closed(address: Address) -> None:
    await _is_turned_away(address, b"close")


async def is_greeted(address: Address) -> None:
    async with Connection(address) as connection:
        await connection.reader.readline()
        for _ in range(random.randrange(5)):
            connection.send(b"again\n")
            await connection.reader.readexactly(6)


async def listens(address: Address) -> None:
    async with Connection(address) as connection:
        ends = time.monotonic() + random.uniform(0.1, 2)
        while time.monotonic() < ends:
            await connection.reader.readexactly(1000)


async def talks(address: Address) -> None:
    async with Connection(address) as connection:
        ends = time.monotonic() + random.uniform(0.1, 2)
        while time.monotonic() < ends:
            connection.send(b"." * 4000)
            await connection.sent()
            await asyncio.sleep(0.02)


async def _datagrams(address: Address, data: bytes, answered: bool) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(address)
        for _ in range(random.randint(1, 6)):
            await loop.sock_sendall(client, data)
            if answered:
                async with asyncio.timeout(1):
                    await loop.sock_recv(client, 100)
            else:
                await asyncio.sleep(random.uniform(0, 0.1))


async def asks_by_udp(address: Address) -> None:
    await _datagrams(address, b"answer me", answered=True)


async def tells_by_udp(address: Address) -> None:
    await _datagrams(address, b"say nothing", answered=False)


CLIENTS: Final[dict[str, tuple[tuple[Client, int], ...]]] = {
    "ask": (
        (asks_once, 12),
        (asks_again_and_again, 8),
        (gives_up, 3),
        (resets, 3),
        (abandons_its_syn, 2),
        (is_left_without_an_answer, 6),
        (is_reset, 2),
        (is_closed, 2),
    ),
    "greet": ((is_greeted, 4), (resets, 1)),
    "stream": ((listens, 4),),
    "sink": ((talks, 4), (resets, 1)),
    "udp": ((asks_by_udp, 4), (tells_by_udp, 2)),
}
"""By the sort of server: the sorts of clients, and how many at a time."""


async def main(seed: int, servers: dict[str, list[Address]]) -> dict[str, dict[str, int]]:
    """All of them until standard input ends; how often they did what they are for."""
    random.seed(seed)
    done: Counter[str] = Counter()
    failed: Counter[str] = Counter()

    async def work(client: Client, addresses: list[Address]) -> None:
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    await client(random.choice(addresses))
                done[client.__name__] += 1
            except (OSError, EOFError):
                failed[client.__name__] += 1
            await asyncio.sleep(random.uniform(0, _PAUSE))

    tasks = [
        asyncio.create_task(work(client, servers[kind]))
        for kind, clients in CLIENTS.items()
        for client, count in clients
        for _ in range(count)
    ]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(error, asyncio.CancelledError):
            raise AssertionError("a client has ended") from error
    return {"done": done, "failed": failed}


if __name__ == "__main__":
    addresses = {
        kind: [(host, port) for host, port in where] for kind, where in json.loads(sys.argv[2]).items()
    }
    print(json.dumps(asyncio.run(main(int(sys.argv[1]), addresses))))
