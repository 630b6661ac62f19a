"""The processes of a network namespace, and how to end them without ever meeting a stranger.

Who is in a namespace that the lab made is the lab's. A process number alone proves nothing: it may
have been given to another process since.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

PATIENCE: Final = 5.0  # seconds


def in_namespace(pid: int, inode: int) -> bool:
    """Whether a process runs in the network namespace with this inode; False for a zombie."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino == inode
    except OSError:
        return False


def members(inode: int) -> list[int]:
    """The processes in a network namespace, without the caller."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid() and in_namespace(int(entry.name), inode)
    ]


def end(pids: Iterable[int], inode: int) -> None:
    """SIGTERM to those of the processes that are in the namespace, later SIGKILL; waits for them.

    They have ``PATIENCE`` seconds together to end by themselves.
    """
    with ExitStack() as stack:
        handles = {}
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, handle)
            # The handle stays with the process: if it is one of ours now, it is so below.
            if in_namespace(pid, inode):
                handles[handle] = pid
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for handle in handles:
                _signal(handle, sign)
            deadline = time.monotonic() + PATIENCE
            while handles and (left := deadline - time.monotonic()) > 0:
                for handle in select.select(list(handles), [], [], left)[0]:
                    del handles[handle]


def _signal(handle: int, sign: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, sign)
    except ProcessLookupError:
        return
