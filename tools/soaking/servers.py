"""Servers of all sorts on one host; runs on the lab's backends, standard library only.

    python3 servers.py ASK GREET STREAM SINK UDP     # their ports

ask: a line of milliseconds, bytes and what to do - `answer`, `never`, `close`, `reset` - again and again.
greet: speaks first, then sends back every line. stream: sends for as long as somebody listens. sink: takes
what comes and says nothing. udp: sends back what begins with `answer`, and is silent otherwise.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

PATIENCE: Final = (
    15.0  # seconds: a client whose connection the gateway has forgotten is never heard of again
)
_BACKLOG: Final = 1024
_PIECE: Final = b"." * (16 << 10)
_PAUSE: Final = 0.02  # seconds between two pieces: it is not the speed that is tried here
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 s

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do as each line says."""
    while line := await reader.readline():
        milliseconds, size, what = line.split()
        await asyncio.sleep(int(milliseconds) / 1000)
        if what == b"never":
            await reader.read()
        if what == b"reset":
            reset(writer)
        if what != b"answer":
            return
        writer.write(b"." * (int(size) - 1) + b"\n")
        await writer.drain()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak first."""
    writer.write(b"welcome\n")
    while line := await reader.readline():
        writer.write(line)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never hear anything."""
    while True:
        writer.write(_PIECE)
        await writer.drain()
        await asyncio.sleep(_PAUSE)


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never say anything."""
    while await reader.read(len(_PIECE)):
        pass


class Datagrams(asyncio.DatagramProtocol):
    """Sends back what asks for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data.startswith(b"answer"):
            self._transport.sendto(data, addr)


def reset(writer: asyncio.StreamWriter) -> None:
    """Have closing the connection be an RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _patiently(handler: Handler) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await handler(reader, writer)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()

    return serve


async def main(ports: list[int]) -> None:
    """Serve until killed. Every socket is for both IP versions."""
    *tcp, udp = ports
    for handler, port in zip((ask, greet, stream, sink), tcp, strict=True):
        listener = socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
        )
        await asyncio.start_server(_patiently(handler), sock=listener, backlog=_BACKLOG)
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind(("", udp))
    await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, sock=datagrams)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
