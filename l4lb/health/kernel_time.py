"""When the kernel sent and received a packet, by its own clock: timestamp(7), timestamping.rst.

Python gets to a packet when the event loop does, which under load is milliseconds later. The
stamps are of the wall clock, which may be set while a probe is under way, so they are believed only where
the monotonic clock says that it was not.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final

_SO_TIMESTAMPNS: Final = 35
_SO_TIMESTAMPING: Final = 37
_TX_SOFTWARE: Final = 1 << 1  # SOF_TIMESTAMPING_*: when the driver took the packet
_RX_SOFTWARE: Final = 1 << 3  # when the driver handed it over
_REPORT_SOFTWARE: Final = 1 << 4

_TIMESPEC: Final = Struct("@ll")

_APART: Final = 1_000_000
"""Nanoseconds by which the clocks may drift apart while a question is under way. Adjusting the wall clock
slowly moves both; more was a step, or this process was stopped between reading the one and the other."""

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


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on both clocks, in nanoseconds."""

    wall: int
    monotonic: int


def moment() -> Moment:
    """Now."""
    return Moment(time.time_ns(), time.monotonic_ns())


def round_trip(began: Moment, received: int | None, ended: Moment, sent: int | None = None) -> float:
    """Seconds from question to answer.

    Args:
        began: before the question was sent.
        received: the answer's stamp, if it has one.
        ended: after the answer was read; from ``began`` to this, by the monotonic clock, is an upper bound,
            and the answer where the wall clock was set in between: it has passed another time by more than
            ``_APART``, or the stamps are not between the two moments.
        sent: the question's stamp, if it has one.
    """
    elapsed = ended.monotonic - began.monotonic
    was_set = abs(ended.wall - began.wall - elapsed) > _APART
    if received is not None and not was_set:
        measured = received - (began.wall if sent is None else sent)
        if 0 <= measured <= elapsed:
            return measured / 1e9
    return elapsed / 1e9
