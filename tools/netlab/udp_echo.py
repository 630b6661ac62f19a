"""A UDP server that sends back what it gets with its host's name before it.

    python3 udp_echo.py NAME PORT PID_FILE

IPv4 and IPv6 on one socket. Once it listens it goes to the background.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final

LARGEST: Final = 65_507  # bytes: 65535 less the IPv4 and the UDP header


def listen(port: int) -> socket.socket:
    """A socket for both IP versions."""
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("", port))
    return server


def serve(server: socket.socket, name: str) -> None:
    """Answer until killed."""
    greeting = f"{name} ".encode()
    while True:
        try:
            data, client = server.recvfrom(65_535)
            server.sendto((greeting + data)[:LARGEST], client)
        except OSError:  # a client that cannot be reached must not end the server
            continue


def main() -> None:
    """Listen, leave the caller, serve."""
    name, port, pid_file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    try:
        server = listen(port)
    except OSError as error:
        sys.exit(f"UDP port {port}: {error.strerror}")
    pid = os.fork()
    if pid:
        pid_file.write_text(f"{pid}\n")
        return
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    serve(server, name)


if __name__ == "__main__":
    main()
