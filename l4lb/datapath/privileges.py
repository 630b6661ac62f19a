"""Capabilities of a process: which it has, and giving up those it does not need (``capabilities(7)``)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Iterable
from enum import IntEnum
from pathlib import Path
from typing import Final

_VERSION: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_PR_SET_NO_NEW_PRIVS: Final = 38
_STATUS: Final = Path("/proc/self/status")


class Capability(IntEnum):
    """Those that l4lb has a use for, with their numbers in <linux/capability.h>."""

    NET_ADMIN = 12
    NET_RAW = 13
    SYS_ADMIN = 21
    PERFMON = 38
    BPF = 39

    def __str__(self) -> str:
        """As in units and manuals."""
        return f"CAP_{self.name}"


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def held() -> frozenset[Capability]:
    """Those of ``Capability`` that are in effect in this process."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return frozenset(each for each in Capability if mask >> each & 1)


def missing(needed: Iterable[Capability], has: Collection[Capability]) -> str | None:
    """One line about those that are needed and that a process which ``has`` these lacks; None if it lacks
    none."""
    implied = (Capability.BPF, Capability.PERFMON) if Capability.SYS_ADMIN in has else ()
    lacking = [each for each in needed if each not in has and each not in implied]
    if not lacking:
        return None
    names = " and ".join(map(str, lacking))
    return (
        f"{names} {'is' if len(lacking) == 1 else 'are'} missing: a systemd unit gives capabilities by "
        "CapabilityBoundingSet=, a container by --cap-add"
    )


def keep_only(wanted: Collection[Capability]) -> None:
    """Give up all other capabilities, for good: what this process runs gets no more, root or not.

    Needs no privileges itself, unlike taking capabilities out of the bounding set, and does as much
    together with no_new_privs.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error()
    header, sets = _Header(_VERSION, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets):
        raise _error()
    mask = sum(1 << each for each in wanted)
    for index, part in enumerate(sets):
        part.permitted &= mask >> 32 * index & 0xFFFFFFFF
        part.effective = part.permitted
        part.inheritable = 0
    if libc.capset(ctypes.byref(header), sets):
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
