"""What a lab has made, on disk before it is made, so that it can be removed after any accident."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from netlab import LabError
from netlab.command import NAMESPACES

# Not under /run: the files to download may be larger than a tmpfs.
HOME: Final = Path("/var/lib/l4lb-lab")
LOCK: Final = Path("/run/l4lb-lab.lock")


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def namespace_inode(name: str | None) -> int | None:
    """The identity of a named network namespace, or of the caller's; None if there is none of that name."""
    try:
        return (NAMESPACES / name if name is not None else Path("/proc/self/ns/net")).stat().st_ino
    except FileNotFoundError:
        return None


@dataclass(slots=True)
class Record:
    """The namespaces of one lab.

    A namespace is entered without an inode before it is made: it did not exist then, so what has
    its name after an accident is the lab's.
    """

    path: Path
    complete: bool = False
    namespaces: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a record; an empty one if there is none or it is of an earlier boot.

        Raises:
            LabError: somebody has damaged it.
        """
        record = cls(path)
        try:
            data = json.loads(path.read_text())
            if data["boot"] == _boot():
                record.complete = data["complete"]
                record.namespaces = data["namespaces"]
        except FileNotFoundError:
            return record
        except (ValueError, KeyError, TypeError) as error:
            hint = (
                f"remove {path.parent}, and by 'ip netns delete' its namespaces ({path.parent.name}-HOST)"
            )
            raise LabError(f"{path} is no record of a lab ({error!r}): {hint}") from None
        return record

    def save(self) -> None:
        """Write the record, whole or not at all."""
        data = {"boot": _boot(), "complete": self.complete, "namespaces": self.namespaces}
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(data, indent=2) + "\n")
        fresh.replace(self.path)

    def owned(self, name: str) -> int | None:
        """The inode of the namespace that has this name now, if it is the one that the lab made."""
        inode = namespace_inode(name)
        return inode if name in self.namespaces and self.namespaces[name] in (None, inode) else None


@contextmanager
def locked() -> Iterator[None]:
    """One command at a time changes the labs of this machine."""
    handle = os.open(LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def lock_of(prefix: str) -> Path:
    """What a program holds that has the lab of this prefix for itself."""
    return Path(f"/run/l4lb-lab.{prefix}.lock")


@contextmanager
def alone(prefix: str) -> Iterator[None]:
    """Have the lab of this prefix for one program alone, which takes down what it finds of it.

    Raises:
        LabError: another one is at work on it, or the caller is not root.
    """
    # Not removed: who has opened it and who makes it anew would hold two.
    refusal = f"another tool is at work on the lab '{prefix}': wait for its end"
    with held(lock_of(prefix), refusal):
        yield


@contextmanager
def held(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock that nobody waits for.

    Raises:
        LabError: with ``refusal``, another one holds it; or the caller is not root.
    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except PermissionError:
        raise LabError("the lab is made of network namespaces: run it as root") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(refusal) from None
        yield
    finally:
        os.close(handle)
