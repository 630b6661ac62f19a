"""Telling the service manager how the daemon is doing: the protocol of ``sd_notify(3)``."""

from __future__ import annotations

import os
import socket
import time


def notify(*assignments: str) -> None:
    """Send ``READY=1`` and the like to the socket that NOTIFY_SOCKET names; without one, nothing.

    A manager that cannot be reached is no reason to fail.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        try:
            manager.sendto("\n".join(assignments).encode(), address)
        except OSError:
            return


def reloading() -> None:
    """A reload begins; the READY=1 that follows ends it (``Type=notify-reload``)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
