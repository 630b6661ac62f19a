"""Where programs and maps outlive the daemon: /sys/fs/bpf/l4lb, one directory for each network namespace.

    /sys/fs/bpf/l4lb/net-COOKIE/layout-VERSION/maps/NAME
                                              /links/HOOK-INTERFACE

Several namespaces may see one BPF file system, and a daemon runs in each. The kernel gives a namespace its
cookie once (SO_NETNS_COOKIE), so no directory is taken for that of a namespace that was removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Final

from l4lb.datapath.base import DatapathError
from l4lb.datapath.ebpf.layout import LAYOUT_VERSION

log = logging.getLogger(__name__)

FILE_SYSTEM: Final = Path("/sys/fs/bpf")
_SO_NETNS_COOKIE: Final = 71  # Linux 5.14
_MOUNTS: Final = Path("/proc/self/mountinfo")


def namespace_directory(file_system: Path = FILE_SYSTEM) -> Path:
    """The directory of the network namespace that we are in; it need not exist.

    Raises:
        DatapathError: the kernel is too old to tell namespaces apart.
    """
    with socket.socket(socket.AF_UNIX) as one:
        try:
            cookie = one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            raise DatapathError(
                "the kernel is too old for eBPF as l4lb uses it: Linux 5.15 or later"
            ) from None
    return file_system / "l4lb" / f"net-{int.from_bytes(cookie, sys.byteorder)}"


def version_directory(namespace: Path) -> Path:
    """Where pins of this version of the maps' layout are."""
    return namespace / f"layout-{LAYOUT_VERSION}"


def is_mounted(file_system: Path = FILE_SYSTEM) -> bool:
    """True if a BPF file system is at this path."""
    # mount point and type of the last mount there, proc_pid_mountinfo(5)
    kinds = [
        line.split(" - ")[1].split()[0]
        for line in _MOUNTS.read_text().splitlines()
        if line.split()[4] == str(file_system)
    ]
    return bool(kinds) and kinds[-1] == "bpf"


def mount(file_system: Path = FILE_SYSTEM) -> None:
    """Mount a BPF file system, for root only, unless there is one. Needs CAP_SYS_ADMIN.

    Raises:
        DatapathError: it cannot be mounted; says what to do.
    """
    if is_mounted(file_system):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(file_system), b"bpf", 0, b"mode=0700"):
        reason = os.strerror(ctypes.get_errno())
        raise DatapathError(
            f"there is no BPF file system at {file_system}, and mounting one failed: {reason}; "
            f"try 'mount -t bpf -o mode=0700 bpf {file_system}'"
        )
    if is_private():
        log.warning(
            "%s is of this mount namespace alone, as under 'ip netns exec': when its last process "
            "ends, so do the programs and their connections; 'nsenter --net' keeps them",
            file_system,
        )


def is_private() -> bool:
    """True if we have another mount namespace than the host's first process, as under ``ip netns exec``:
    a file system mounted here is gone when the last process here is."""
    try:
        return os.stat("/proc/1/ns/mnt").st_ino != os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        return False


def remove_if_empty(directory: Path) -> None:
    """Remove a directory that nobody uses any more."""
    with contextlib.suppress(OSError):
        directory.rmdir()
