"""What a command begins with that makes a lab."""

from __future__ import annotations

import os
import signal
import sys


def end_as_after_an_error() -> None:
    """By SIGTERM and SIGHUP, so that what was made is removed."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, frame: sys.exit(128 + number))


def find_roots_programs() -> None:
    """A plain ``su`` leaves root without the directories of the administrator's programs."""
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
