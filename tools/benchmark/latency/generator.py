"""Clients that come when they come, whether or not others are answered; runs on a host of the lab.

    python3 -m benchmark.latency.generator <ORDER

ORDER and what it prints are JSON, see ``Order`` and ``Answer``. Latency counts from the moment at which
the request should have come: a generator that is late, or whose connections are all busy, cannot hide
it (coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from dataclasses import asdict, dataclass

_REQUEST = "GET /{work:.6f} HTTP/1.1\r\nHost: bench\r\nConnection: {kept}\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Order:
    """What to do.

    Attributes:
        host, port: who is asked.
        start: time 0 of the requests, by the monotonic clock.
        arrivals: when each request comes, in seconds, and its work.
        requests, patience, tries: see ``workload.Clients``.
    """

    host: str
    port: int
    start: float
    arrivals: list[tuple[float, float]]
    requests: int
    patience: float
    tries: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Attributes:
        time: when it should have come, in seconds from the order's start.
        late: by how much it really came later, in seconds.
        latency: from ``time`` to its end, in seconds.
        backend: who answered; None: it is lost.
        failures: why tries before that were in vain.
    """

    time: float
    late: float
    latency: float
    backend: str | None
    failures: list[str]


class _Connection:
    """A connection and how many requests it has done."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.done = 0

    async def ask(self, work: float, *, last: bool) -> str:
        """One request; the name of the server."""
        request = _REQUEST.format(work=work, kept="close" if last else "keep-alive")
        self.writer.write(request.encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise OSError("not the answer that was asked for")
        self.done += 1
        return (await self.reader.readline()).decode().strip()


class _Clients:
    """All of an order's clients."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._time = asyncio.get_running_loop().time
        self._idle: list[_Connection] = []

    async def run(self) -> list[Answer]:
        """Let every request come at its time."""
        tasks = []
        for time, work in self._order.arrivals:
            await asyncio.sleep(self._order.start + time - self._time())
            tasks.append(asyncio.create_task(self._request(time, work)))
        return await asyncio.gather(*tasks)

    async def _request(self, time: float, work: float) -> Answer:
        intended = self._order.start + time
        late = self._time() - intended
        backend = None
        failures: list[str] = []
        while backend is None and len(failures) < self._order.tries:
            try:
                async with asyncio.timeout(self._order.patience):
                    backend = await self._try(work)
            except (OSError, EOFError) as error:
                failures.append(_name(error))
        return Answer(time, late, self._time() - intended, backend, failures)

    async def _try(self, work: float) -> str:
        connection = await self._connection()
        last = connection.done + 1 >= self._order.requests
        answered = False
        try:
            backend = await connection.ask(work, last=last)
            answered = True
        finally:
            if answered and not last:
                self._idle.append(connection)
            else:
                connection.writer.close()
        return backend

    async def _connection(self) -> _Connection:
        """The one that was used last of those that are free, as usual in HTTP clients; or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.reader.at_eof():
                return connection
            connection.writer.close()
        return _Connection(*await asyncio.open_connection(self._order.host, self._order.port))


def _name(error: Exception) -> str:
    """What went wrong, in one word."""
    match error:
        case TimeoutError():
            return "timeout"
        case ConnectionRefusedError():
            return "refused"
        case ConnectionResetError() | BrokenPipeError():
            return "reset"
        case EOFError():
            return "closed"
        case _:
            return str(error)


async def _run(order: Order) -> list[Answer]:
    return await _Clients(order).run()


if __name__ == "__main__":
    gc.disable()  # a collection in between would make requests late
    order = Order(**json.load(sys.stdin))
    print(json.dumps([asdict(answer) for answer in asyncio.run(_run(order))]))
