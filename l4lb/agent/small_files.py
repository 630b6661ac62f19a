"""Small files that somebody else writes: keys, states, figures."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_small(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """Up to ``most`` bytes of a file, and what it is: of the very file that was read.

    Does not wait, whatever has that name.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            raise OSError(errno.EINVAL, "not a regular file")
        data = b""
        while len(data) < most and (more := os.read(descriptor, most - len(data))):
            data += more
        return data, status
    finally:
        os.close(descriptor)
