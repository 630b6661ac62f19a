"""The application's own figure: a number from 0 (idle) to 1 (full) in a file that it writes. Edge: files.

Replacing the file (write another, rename it) is best, but a file caught half written only counts as
unknown until the next look.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Final

from l4lb.agent.small_files import read_small
from l4lb.privileges import refusal

_LARGEST: Final = 64  # bytes


class Unknown(ValueError):
    """There is no figure now. The message says why, in one line with the file's name."""


def read_figure(path: Path, max_age: float) -> float:
    """The figure in a file that was written in the last ``max_age`` seconds.

    The file's time is on the wall clock. When that jumps the file counts as too old until it is written
    again, also where its time is in the future.

    Raises:
        Unknown: the file is not there, too old, or has anything but a number from 0 to 1 in it.
    """
    try:
        data, status = read_small(path, _LARGEST + 1)
    except OSError as error:
        raise Unknown(f"{path}: {refusal(error)}") from None
    age = time.time() - status.st_mtime
    if not -max_age <= age <= max_age:
        raise Unknown(f"{path}: not written for more than {max_age:g} s")
    return parse_figure(data, path)


def parse_figure(data: bytes, path: Path) -> float:
    """The figure in the bytes of a file; ``path`` is for messages.

    Raises:
        Unknown: it is not a number from 0 to 1.
    """
    try:
        value = float(data) if len(data) <= _LARGEST else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Unknown(f"{path}: not a number from 0 to 1")
    return value
