"""Many HTTP clients at once, each with a connection of its own that it keeps.

    python3 many_clients.py ADDRESS PORT CLIENTS REQUESTS

All connect before the first asks. Prints JSON: how many requests each backend answered, how many
connections met more than one backend, and every error with its count.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter

_REQUEST = b"GET / HTTP/1.1\r\nHost: l4lb\r\n\r\n"
_PATIENCE = 30.0  # seconds


async def _answer(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().lower().splitlines()[1:] if line)
    return (await reader.readexactly(int(fields["content-length"]))).decode().strip()


async def _client(address: str, port: int, requests: int, everybody: asyncio.Barrier) -> list[str]:
    try:
        reader, writer = await asyncio.open_connection(address, port)
    except OSError:
        await everybody.abort()  # nobody is to wait for this one
        raise
    try:
        await everybody.wait()
        answers = []
        for _ in range(requests):
            writer.write(_REQUEST)
            answers.append(await _answer(reader))
        return answers
    finally:
        writer.close()


async def _run(address: str, port: int, clients: int, requests: int) -> dict[str, object]:
    everybody = asyncio.Barrier(clients)
    async with asyncio.timeout(_PATIENCE):
        outcomes = await asyncio.gather(
            *(_client(address, port, requests, everybody) for _ in range(clients)), return_exceptions=True
        )
    errors = Counter(repr(outcome) for outcome in outcomes if isinstance(outcome, BaseException))
    served = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    return {
        "answers": Counter(name for answers in served for name in answers),
        "strayed": sum(len(set(answers)) > 1 for answers in served),
        "errors": errors,
    }


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    arguments = (int(argument) for argument in sys.argv[2:])
    print(json.dumps(asyncio.run(_run(sys.argv[1], *arguments))))
