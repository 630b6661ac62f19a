"""How the daemon logs: one line for each event, on stderr.

Under journald the line opens with its priority (``sd-daemon(3)``) and has no time of its own, since
the journal keeps both; anywhere else it opens with the local time and the level.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final, TextIO

LEVELS: Final = ("debug", "info", "warning", "error")

_PRIORITY: Final = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class _TimedLines(logging.Formatter):
    """``2026-01-31 23:59:59.123 warning text``."""

    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {record.levelname.lower()} {super().format(record)}"


class _JournalLines(logging.Formatter):
    """``<4>text``, and the same mark before every further line (a traceback's)."""

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITY.get(record.levelno, 6)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines() or [""])


def goes_to_journal(stream: TextIO) -> bool:
    """Whether the stream is the one journald reads: JOURNAL_STREAM names its device and inode
    (``systemd.exec(5)``); a redirected stream inherits the variable but is another file."""
    named = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def error_mark() -> str:
    """What opens a line on stderr that is an error, so that the journal knows."""
    marked = sys.stderr is not None and goes_to_journal(sys.stderr)
    return f"<{_PRIORITY[logging.ERROR]}>" if marked else ""


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send everything from ``level`` (one of LEVELS) on to ``stream``, by default stderr.

    Calling it again replaces what was before.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JournalLines() if goes_to_journal(stream) else _TimedLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries: only what is wrong
    logging.getLogger("l4lb").setLevel(level.upper())
