"""What a command begins with that makes a lab."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Final, NoReturn

_ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)


def end_as_after_an_error() -> None:
    """By SIGTERM and SIGHUP, so that what was made is removed. The first one is enough: another one does
    not cut that short."""
    for ending in _ENDINGS:
        signal.signal(ending, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(128 + number)


def find_roots_programs() -> None:
    """A plain ``su`` leaves root without the directories of the administrator's programs."""
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
