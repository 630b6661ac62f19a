"""Many transfers at once, whose every byte is checked; runs on hosts of the lab, standard library only.

    python3 transfers.py serve PORT
    python3 transfers.py fetch COUNT PORT HOST

`serve` sends to everyone who connects for as long as they like. `fetch` receives over COUNT connections
and prints, as one line of JSON each time it reads MARK or TOLL, what has happened since the last.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import sys
import time
from typing import Final, cast

_PERIOD: Final = 251  # of the bytes that are sent: no power of two, so a piece that is missing shows
_PIECE: Final = 32 << 10  # bytes
_PATTERN: Final = memoryview(bytes(number % _PERIOD for number in range(_PIECE + _PERIOD)))
_BUFFER: Final = 64 << 10  # bytes that a socket keeps: 1,000 must not wait for each other for long
_BACKLOG: Final = 4096

MARK: Final = "m"
"""Tells `fetch` to say what has happened."""

TOLL: Final = "t"
"""The same, and to give up those connections of which nothing has come since it last did."""


def serve(port: int) -> None:
    """Send to all clients until killed."""
    listener = socket.create_server(("", port), backlog=_BACKLOG)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    listener.setblocking(False)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                client.setblocking(False)
                ready.register(client, selectors.EVENT_WRITE, [0])
                continue
            client = cast(socket.socket, key.fileobj)
            start = key.data[0] % _PERIOD
            try:
                key.data[0] += client.send(_PATTERN[start : start + _PIECE])
            except BlockingIOError:
                continue
            except OSError:  # it has gone
                ready.unregister(client)
                client.close()


class Fetcher:
    """All connections of one `fetch`."""

    def __init__(self, count: int, address: tuple[str, int]) -> None:
        self.ready = selectors.DefaultSelector()
        self.since = time.monotonic()
        self.bytes = 0
        self.broken: list[str] = []
        self.heard: set[int] = set()  # of which something has come
        self.open: dict[int, socket.socket] = {}
        self.buffer = bytearray(_PIECE)
        self.view = memoryview(self.buffer)
        for _ in range(count):
            connection = socket.create_connection(address, timeout=10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            connection.setblocking(False)
            self.ready.register(connection, selectors.EVENT_READ, [0])
            self.open[connection.fileno()] = connection

    def receive(self, key: selectors.SelectorKey) -> None:
        """Take what has come in on a connection."""
        connection = cast(socket.socket, key.fileobj)
        if connection.fileno() < 0:
            return None  # given up a moment ago
        try:
            length = connection.recv_into(self.buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            return self.end(connection, error.strerror or str(error))
        if not length:
            return self.end(connection, "it was closed")
        start = key.data[0] % _PERIOD
        if self.view[:length] != _PATTERN[start : start + length]:
            return self.end(connection, "other bytes than were sent")
        key.data[0] += length
        self.bytes += length
        self.heard.add(connection.fileno())
        return None

    def end(self, connection: socket.socket, why: str) -> None:
        """A connection that is no use any more."""
        self.broken.append(why)
        self.ready.unregister(connection)
        del self.open[connection.fileno()]
        connection.close()

    def toll(self) -> str:
        """What has happened, and those of which nothing has come are given up for good."""
        for number in self.open.keys() - self.heard:
            self.end(self.open[number], "nothing came")
        return self.mark()

    def mark(self) -> str:
        """What has happened since the last time."""
        now = time.monotonic()
        report = {
            "seconds": now - self.since,
            "bytes": self.bytes,
            "open": len(self.open),
            "silent": len(self.open.keys() - self.heard),
            "broken": self.broken,
        }
        self.since, self.bytes, self.heard = now, 0, set()
        self.broken = []
        return json.dumps(report)


def fetch(count: int, address: tuple[str, int]) -> None:
    """Receive until standard input is closed."""
    fetcher = Fetcher(count, address)
    fetcher.ready.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in fetcher.ready.select():
            if key.fileobj is not sys.stdin:
                fetcher.receive(key)
            elif command := os.read(key.fd, 1):
                print(fetcher.toll() if command == TOLL.encode() else fetcher.mark(), flush=True)
            else:
                return


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        fetch(int(sys.argv[2]), (sys.argv[4], int(sys.argv[3])))
