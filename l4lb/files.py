"""Files that are replaced as a whole: who reads one, also after a crash, finds all of the old or all of the
new."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_BUFFER: Final = 1 << 20


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the block ends without an error.

    Until then it is beside it, under a name that a later try cleans up, should this one be killed. A
    symbolic link in the file's place is replaced, not followed.

    Args:
        path: its directory exists.
        mode: who may read it.

    Raises:
        OSError: the directory is not writable, or the disk is full; all is as it was.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    # Exclusively: nobody else's link is followed, and of two who write at a time the second is told.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb", buffering=_BUFFER) as file:
            os.fchmod(file.fileno(), mode)
            yield file
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


class Changed(Exception):
    """A file has another text than was thought."""


def rewrite(path: Path, before: str, text: str) -> None:
    """Put another text into a file of the user's, to last through a loss of power.

    Mode and owner stay, extended attributes (ACLs, a label) where that is allowed; a symbolic link stays a
    link.

    Args:
        path: where it is.
        before: its text as it was read.
        text: the new one.

    Raises:
        Changed: somebody else has put another text there since; that stays.
        OSError: as ``replacing``.
    """
    path = path.resolve()
    status = path.stat()
    with replacing(path) as file:
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchmod(file.fileno(), status.st_mode & 0o7777)
        for attribute in _attributes(path):
            with contextlib.suppress(OSError):
                os.setxattr(file.fileno(), attribute, os.getxattr(path, attribute))
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
        if path.read_bytes() != before.encode():  # last: the disk may have taken a while
            raise Changed
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def keep(path: Path, text: str) -> None:
    """Keep something small for the process that comes after; without text there is no file. Its directory
    is made.

    Raises:
        OSError: it cannot be written, or removed; it is as it was.
    """
    if not text:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode())


def _attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:  # a file system without
        return []
