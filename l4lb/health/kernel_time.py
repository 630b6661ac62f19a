"""When the kernel sent and received a packet, by its own clock: timestamp(7), timestamping.rst.

Python gets to a packet when the event loop does, which under load is milliseconds later. The
stamps are of the wall clock, which may be set while a probe is under way, so they are believed only where
the monotonic clock allows them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from struct import Struct
from typing import Final

_SO_TIMESTAMPNS: Final = 35
_SO_TIMESTAMPING: Final = 37
_TX_SOFTWARE: Final = 1 << 1  # SOF_TIMESTAMPING_*: when the driver took the packet
_RX_SOFTWARE: Final = 1 << 3  # when the driver handed it over
_REPORT_SOFTWARE: Final = 1 << 4

_TIMESPEC: Final = Struct("@ll")

ANCILLARY_SIZE: Final = 512
"""Bytes for a stamp and whatever else the kernel says of a packet."""

Ancillary = Iterable[tuple[int, int, bytes]]


def stamp_received(sock: socket.socket) -> None:
    """Have what ``recvmsg`` reads stamped with the time it was received."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def stamp_both(sock: socket.socket) -> None:
    """As ``stamp_received``; and every packet sent comes back on the socket's error queue, with all its
    headers, stamped with the time the driver took it. Drivers that cannot do it send nothing back."""
    flags = _TX_SOFTWARE | _RX_SOFTWARE | _REPORT_SOFTWARE
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, flags)


def stamp(ancillary: Ancillary) -> int | None:
    """Nanoseconds of the wall clock; None without a stamp."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind in (_SO_TIMESTAMPNS, _SO_TIMESTAMPING):
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            if seconds or nanoseconds:
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def round_trip(sent: int, received: int | None, elapsed: float) -> float:
    """Seconds from question to answer.

    Args:
        sent, received: stamps in nanoseconds of the wall clock.
        elapsed: seconds on the monotonic clock, from before the one to after the other: an upper bound,
            and the answer where the stamps contradict it because the wall clock was set in between.
    """
    if received is not None and 0 <= (measured := (received - sent) / 1e9) <= elapsed:
        return measured
    return elapsed
