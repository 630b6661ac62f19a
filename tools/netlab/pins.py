"""What l4lb has pinned for a network namespace of the lab: it would outlive the namespace."""

from __future__ import annotations

import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from netlab import LabError
from netlab.command import inside, run

PINS: Final = Path("/sys/fs/bpf/l4lb")

# SO_NETNS_COOKIE, by which l4lb names the directory.
_COOKIE: Final = (
    "import socket, sys; print(int.from_bytes("
    "socket.socket(socket.AF_UNIX).getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder))"
)

_OWN: Final = "mount -t bpf bpf /sys/fs/bpf && echo ready && exec sleep infinity"


@contextmanager
def own(command: Callable[..., list[str]], timeout: float) -> Iterator[int]:
    """A process on a host with a BPF file system of its own, which goes with it.

    Args:
        command: the command line that runs another on the host, ``command(*argv)``.
        timeout: seconds that it may take to make it.

    Raises:
        LabError: there can be none.
    """
    argv = command("unshare", "--mount", "--propagation", "private", "sh", "-c", _OWN)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as holder:
        assert holder.stdout is not None
        try:
            heard = select.select([holder.stdout], [], [], timeout)[0]
            said = holder.stdout.readline().strip() if heard else ""
            if said != "ready":
                raise LabError(f"no BPF file system for the gateway: {said or 'it said nothing'}")
            yield holder.pid
        finally:
            holder.terminate()


def remove(namespace: str) -> None:
    """Remove what a daemon in this namespace has left for the next one there."""
    if PINS.is_dir():
        cookie = run(inside(namespace, sys.executable, "-c", _COOKIE)).strip()
        shutil.rmtree(PINS / f"net-{cookie}", ignore_errors=True)
