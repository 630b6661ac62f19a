"""The key file: what a gateway and its agents know in common.

One key a line in hexadecimal, at least 32 digits (``openssl rand -hex 32``); ``#`` begins a comment. The
first key is the one that a gateway asks with; a second one is for changing it: add the new key below the
old one on all agents, put it first on the gateways, then take the old one away. Gateways and agents follow
the file; an agent that has a copy of it by systemd (``LoadCredential``) is to be restarted.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path
from time import time_ns
from typing import Final

from l4lb.agent.small_files import Followed, read_small
from l4lb.privileges import refusal

_LARGEST: Final = 4_096  # bytes
_MOST: Final = 2
_SHORTEST: Final = 16  # bytes: as long as the MAC

_SETTLED: Final = 2_000_000_000
"""ns since its last change, after which another one shows in a file's times: some file systems count in
seconds."""

_FILES: Final = 64
"""Files whose keys are remembered."""


class BadKeyFile(ValueError):
    """A key file cannot be used. The message is one line for people, with the file's name."""


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The keys of a file, one or two. One that has not changed since it was read is not read again.

    Raises:
        BadKeyFile: it cannot be read, others could read or change it, or there is no key in it.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise BadKeyFile(f"{path}: cannot read the key: {refusal(error)}") from None
    if time_ns() - status.st_ctime_ns < _SETTLED:
        return _read(path)
    # The time of its last change is also that of a chmod.
    return _read_once(
        path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    )


@lru_cache(_FILES)
def _read_once(path: Path, state: tuple[int, ...]) -> tuple[bytes, ...]:
    """The keys of a file that is in this state."""
    return _read(path)


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        data, status = read_small(path, _LARGEST + 1)
    except OSError as error:
        raise BadKeyFile(f"{path}: cannot read the key: {refusal(error)}") from None
    _check_private(path, status)
    if len(data) > _LARGEST:
        raise BadKeyFile(f"{path}: larger than {_LARGEST} bytes: this is not a key file")
    return parse_keys(data, path)


def followed_keys(path: Path | None) -> Followed[tuple[bytes, ...]]:
    """The keys in a file, read now and followed over time; ``path`` None: there are none.

    Raises:
        BadKeyFile: it cannot be used now.
    """

    def read() -> tuple[bytes, ...]:
        return () if path is None else read_keys(path)

    return Followed(read, read(), lambda keys: f"{path}: other keys, {len(keys)} of them")


def parse_keys(data: bytes, path: Path) -> tuple[bytes, ...]:
    """The keys in the bytes of a file; ``path`` is for messages, in which there is never a key.

    Raises:
        BadKeyFile: there is none, there are more than two, or one is not a key.
    """
    keys: list[bytes] = []
    for number, line in enumerate(data.splitlines(), 1):
        digits = line.split(b"#", 1)[0].strip()
        if not digits:
            continue
        try:
            key = bytes.fromhex(digits.decode("ascii"))
        except ValueError:
            raise BadKeyFile(f"{path}:{number}: not a key: write hexadecimal digits") from None
        if len(key) < _SHORTEST:
            raise BadKeyFile(f"{path}:{number}: the key is too short: at least {2 * _SHORTEST} digits")
        keys.append(key)
    if not keys:
        raise BadKeyFile(f"{path}: there is no key in it: 'openssl rand -hex 32' makes one")
    if len(keys) > _MOST:
        raise BadKeyFile(f"{path}: {len(keys)} keys: one, or two while they are being changed")
    return tuple(keys)


def _check_private(path: Path, status: os.stat_result) -> None:
    """The file's group may read it, so that an agent needs not be root (``root:l4lb 0640``)."""
    if not stat.S_ISREG(status.st_mode):
        raise BadKeyFile(f"{path}: not a regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise BadKeyFile(f"{path}: belongs to another user (uid {status.st_uid}): chown it to root")
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
        mode = stat.S_IMODE(status.st_mode)
        raise BadKeyFile(f"{path}: others can read or change it (mode {mode:04o}): chmod 0600 it")
