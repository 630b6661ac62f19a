"""An HTTP server that takes as long as it is told, without using the CPU; runs on hosts of the lab.

    python3 -m benchmark.latency.server NAME ADDRESS PORT WORKERS

`GET /0.25` occupies one of its workers for 0.25 s; the answer is the server's name. It is steered by
standard input: a line is a plan, [[WHEN, SPEED, PACE], ...] as JSON, times of the monotonic clock; see
`workers` for what they are. A plan begins with 1 and 1. At speed 0 it accepts connections and requests
and answers none. The answer to a plan is one line of JSON, what has been since the last plan: requests
`served`, and `late`, the 99th percentile of the seconds by which answers were late for want of CPU.
"""

from __future__ import annotations

import asyncio
import json
import sys

from benchmark.figures.requests import percentile
from benchmark.latency.workers import Workers

_BACKLOG = 4096
_END = b"\r\n\r\n"  # of a head


class _Server:
    """The queue, and what the event loop has to do with it."""

    def __init__(self, name: str, workers: int) -> None:
        self.body = name.encode() + b"\n"
        self.loop = asyncio.get_running_loop()
        self.workers: Workers[_Connection] = Workers(workers)
        self.served = 0
        self._late: list[float] = []
        self._plan: list[asyncio.TimerHandle] = []
        self._next: asyncio.TimerHandle | None = None

    def ask(self, connection: _Connection, work: float) -> None:
        """A request has come."""
        self.workers.add(connection, work, self.loop.time())
        self._wait()

    def gone(self, connection: _Connection) -> None:
        """A client has gone, whether or not it had its answer: nobody works for it."""
        self.workers.remove(connection, self.loop.time())
        self._wait()

    def follow(self, plan: list[tuple[float, float, float]]) -> dict[str, float]:
        """Begin a plan; what has been since the last one."""
        report = {"served": self.served, "late": percentile(self._late, 0.99) if self._late else 0.0}
        self.served, self._late = 0, []
        for timer in self._plan:
            timer.cancel()
        self._go_at(1.0, 1.0)
        self._plan = [self.loop.call_at(when, self._go_at, speed, pace) for when, speed, pace in plan]
        return report

    def _go_at(self, speed: float, pace: float) -> None:
        self.workers.set_speed(speed, self.loop.time())
        self.workers.pace = pace
        self._wait()

    def _wait(self) -> None:
        if self._next:
            self._next.cancel()
        due = self.workers.due()
        self._next = self.loop.call_at(due, self._finish) if due < float("inf") else None

    def _finish(self) -> None:
        now = self.loop.time()
        self._late.append(max(0.0, now - self.workers.due()))
        for connection in self.workers.finished(now):
            self.served += 1
            connection.answer()
        self._wait()


class _Connection(asyncio.Protocol):
    """One request at a time: a client that sends the next one early waits for its turn."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = b""
        self._asked = False
        self._last = False  # the client wants no more than this answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._server.gone(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read()

    def _read(self) -> None:
        head, end, rest = self._buffer.partition(_END)
        if self._asked or not end:
            return
        self._buffer, self._asked = rest, True
        request, _, fields = head.lower().partition(b"\r\n")
        _, path, version = request.split()
        self._last = version == b"http/1.0" or b"connection: close" in fields
        self._server.ask(self, float(path[1:] or 0))

    def answer(self) -> None:
        """Send what was asked for."""
        body = self._server.body
        kept = b"close" if self._last else b"keep-alive"
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: %s" % (len(body), kept)
        self._transport.write(head + _END + body)
        self._asked = False
        if self._last:
            self._transport.close()
        else:
            self._read()


async def _serve(name: str, address: str, port: int, workers: int) -> None:
    loop = asyncio.get_running_loop()
    server = _Server(name, workers)
    await loop.create_server(lambda: _Connection(server), address, port, backlog=_BACKLOG)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(server.follow(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
