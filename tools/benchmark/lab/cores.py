"""Which cores of the machine who runs on, and how busy they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

EVERYWHERE: Final = frozenset(os.sched_getaffinity(0))
"""The cores that the benchmark was given."""

CORE: Final = min(EVERYWHERE)  # what is measured on one core is measured on this one

OTHER_CORE: Final = min(EVERYWHERE - {CORE}, default=None)
"""For what is not to take that one's time; None: the benchmark was given one core."""


def stay(pid: int, cores: Iterable[int]) -> None:
    """Have a process, 0 is this thread, run on these cores only, and what it starts from now on. One that
    has ended is left alone.

    Raises:
        OSError: there are no such cores for it.
    """
    threads = [0]
    if pid:
        try:
            threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
        except FileNotFoundError:
            return
    for thread in threads:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, cores)


def mask(core: int) -> str:
    """A core as files of /sys take it: a bit in hexadecimal, a comma after each 32 of them."""
    words, bit = divmod(core, 32)
    return ",".join([f"{1 << bit:x}", *["00000000"] * words])


@contextmanager
def on_one_core() -> Iterator[None]:
    """With this thread on ``CORE``, and with it what the kernel does in its time."""
    before = os.sched_getaffinity(0)
    stay(0, {CORE})
    try:
        yield
    finally:
        stay(0, before)


def load_average() -> float:
    """Of the machine, one minute."""
    return os.getloadavg()[0]
