"""What l4lb has pinned for a network namespace of the lab: it would outlive the namespace."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from netlab.command import inside, run

PINS: Final = Path("/sys/fs/bpf/l4lb")

# SO_NETNS_COOKIE, by which l4lb names the directory.
_COOKIE: Final = (
    "import socket, sys; print(int.from_bytes("
    "socket.socket(socket.AF_UNIX).getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder))"
)


def remove(namespace: str) -> None:
    """Remove what a daemon in this namespace has left for the next one there."""
    if PINS.is_dir():
        cookie = run(inside(namespace, sys.executable, "-c", _COOKIE)).strip()
        shutil.rmtree(PINS / f"net-{cookie}", ignore_errors=True)
