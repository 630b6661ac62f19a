"""Ask web servers for their names, each time on a new connection; runs on a host of the lab.

    python3 ask.py SECONDS NAMES TIMES ADDRESS...

Asks all ADDRESSes (HOST:PORT) in turn until NAMES different servers have answered, for at most
SECONDS; then TIMES more, and prints how often each name answered those, as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import Counter
from itertools import cycle


def ask(address: str, timeout: float = 2.0) -> str:
    """The name of the server behind an address, HOST:PORT, on a connection of its own.

    Raises:
        OSError: it does not answer, ``timeout`` seconds for each step of it.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"{address} answered '{head.decode(errors='replace')[:60]}'")
    return body.decode().strip()


def main() -> None:
    """See the module."""
    seconds, names, times = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    addresses = cycle(sys.argv[4:])
    deadline = time.monotonic() + seconds
    seen: set[str] = set()
    while len(seen) < names:
        try:
            seen.add(ask(next(addresses)))
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"no answer: {error}")
            time.sleep(0.05)
        if time.monotonic() > deadline:
            sys.exit(f"only {', '.join(sorted(seen))} answered in {seconds:g} s")
    try:
        print(json.dumps(Counter(ask(next(addresses)) for _ in range(times))))
    except OSError as error:
        sys.exit(f"no answer: {error}")


if __name__ == "__main__":
    main()
