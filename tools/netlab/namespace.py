"""Be in a network namespace."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from netlab.command import NAMESPACES

_CLONE_NEWNET: Final = 0x4000_0000  # linux/sched.h


@contextmanager
def entered(name: str) -> Iterator[None]:
    """With this thread in a network namespace: sockets and processes made there stay there.

    Raises:
        OSError: there is none of that name, or this process may not enter it.
    """
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        with (NAMESPACES / name).open("rb") as there:
            _set(there.fileno())
        try:
            yield
        finally:
            _set(home.fileno())


def _set(namespace: int) -> None:
    """setns(2), which Python has from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"cannot enter a network namespace: {os.strerror(error)}")
