"""Capabilities of a process: which it has, and giving up those it does not need (``capabilities(7)``)."""

from __future__ import annotations

import ctypes
import errno
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

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13
    SYS_ADMIN = 21
    PERFMON = 38
    BPF = 39

    def __str__(self) -> str:
        """As in units and manuals."""
        return f"CAP_{self.name}"


DAEMON: Final = frozenset((Capability.NET_ADMIN, Capability.NET_RAW, Capability.BPF, Capability.PERFMON))
"""What the daemon keeps while it runs, whatever its datapath: ``raw`` removes the programs of another one.
What each is for: service/l4lb.service, which gives no more."""


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


_BY_SYS_ADMIN: Final = frozenset((Capability.BPF, Capability.PERFMON))
"""Which the kernel takes CAP_SYS_ADMIN for as well: before Linux 5.8 it was all of them."""


def held() -> frozenset[Capability]:
    """Those of ``Capability`` that are in effect in this process."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return frozenset(each for each in Capability if mask >> each & 1)


def missing(needed: Iterable[Capability], has: Collection[Capability]) -> str | None:
    """One line about those that are needed and that a process which ``has`` these lacks; None if it lacks
    none."""
    implied = _BY_SYS_ADMIN if Capability.SYS_ADMIN in has else ()
    lacking = [each for each in needed if each not in has and each not in implied]
    if not lacking:
        return None
    names = " and ".join(map(str, lacking))
    return (
        f"{names} {'is' if len(lacking) == 1 else 'are'} missing: a systemd unit gives capabilities by "
        "CapabilityBoundingSet=, a container by --cap-add"
    )


def for_daemon(has: Collection[Capability]) -> frozenset[Capability]:
    """What a daemon keeps that ``has`` these: CAP_SYS_ADMIN only where it stands for one that was not
    given."""
    kept = DAEMON.intersection(has)
    stands_in = Capability.SYS_ADMIN in has and not kept >= _BY_SYS_ADMIN
    return kept | {Capability.SYS_ADMIN} if stands_in else kept


def refusal(error: OSError) -> str:
    """Why a file could not be used, for people; where root would have been let in, what to do."""
    denied = error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() == 0
    if not denied or Capability.DAC_OVERRIDE in held():
        return str(error.strerror)
    return (
        f"{error.strerror} (CAP_DAC_OVERRIDE is given up: give the file and its directories to root by "
        "'chown root:root', or open them to others)"
    )


def keep_only(wanted: Collection[Capability]) -> None:
    """Give up all other capabilities, for good: what this process runs gets no more, root or not.

    Needs no privileges itself, unlike taking capabilities out of the bounding set, and does as much
    together with no_new_privs. Capabilities are a thread's: to be called before there is another one.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error()
    header, sets = _Header(_VERSION, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets):
        raise _error()
    had = bytes(sets)
    mask = sum(1 << each for each in wanted)
    for index, part in enumerate(sets):
        part.permitted &= mask >> 32 * index & 0xFFFFFFFF
        part.effective = part.permitted
        part.inheritable = 0
    # The agent's unit forbids the call itself, and has left nothing to give up.
    if bytes(sets) != had and libc.capset(ctypes.byref(header), sets):
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
