"""How the programs tell the time: what ``datapath/bpf/clock.h`` has to know of this kernel.

The kernel's count of ticks goes on with CLOCK_MONOTONIC, by one in every ``tick_length`` ns of it
(tick_do_update_jiffies64 in kernel/time/tick-sched.c), from a beginning that depends on the kernel.
"""

from __future__ import annotations

import time
from pathlib import Path
from struct import Struct
from typing import Final

from l4lb.datapath.libbpf import Object

_COARSE: Final = 6
"""CLOCK_MONOTONIC_COARSE, whose resolution is the length of a tick (clock_getres(2))."""

_READING: Final = Struct("=QQ")
_FRAME: Final = bytes(64)


def constants(objects: Path) -> dict[str, int]:
    """The ``const volatile`` of clock.h. ``objects``: where the compiled programs are.

    Raises:
        LibbpfError: the kernel takes no programs.
    """
    ticks, now = read(objects)
    tick_length = round(time.clock_getres(_COARSE) * 1e9)
    return {"tick_length": tick_length, "first_tick": ticks - now // tick_length}


def read(objects: Path) -> tuple[int, int]:
    """The kernel's count of ticks, and CLOCK_MONOTONIC in ns.

    Raises:
        LibbpfError: the kernel takes no programs.
    """
    reader = Object.open(objects / "clock.bpf.o")
    try:
        reader.load()
        ran = reader.programs["read_clock"].test_run(_FRAME)
    finally:
        reader.close()
    ticks, now = _READING.unpack_from(ran.data)
    return ticks, now
