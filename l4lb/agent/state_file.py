"""The state that somebody wants a backend to have: words in a file. Edge: files.

The words of HAProxy's agent-check, so that ``echo drain > FILE`` drains and ``echo 'down # disk full' >
FILE`` takes down; without the file the backend is ready and up.
"""

from __future__ import annotations

import logging
from pathlib import Path

from l4lb.agent.haproxy_line import LONGEST, BadLine, Line, parse, write
from l4lb.agent.report import Report
from l4lb.agent.small_files import read_small

log = logging.getLogger(__name__)


class BadState(ValueError):
    """The file has no state in it. The message says why, in one line with the file's name."""


def read_state(path: Path) -> Report:
    """A report with the states in the file and nothing else.

    Raises:
        BadState: it cannot be read, or has other words in it.
    """
    try:
        data, _ = read_small(path, LONGEST)
    except FileNotFoundError:
        return Report()
    except OSError as error:
        raise BadState(f"{path}: {error.strerror}") from None
    try:
        line = parse(data + b"\n")
    except BadLine as bad:
        raise BadState(f"{path}: {bad}") from None
    if line != Line(line.administrative, line.operating, description=line.description):
        raise BadState(f"{path}: only ready, drain, maint, up, down, fail and stopped can stand here")
    return line.applied_to(Report())


class WantedState:
    """The state in a file, followed over time; while it cannot be read the last one stays."""

    def __init__(self, path: Path | None) -> None:
        """``path`` None: always ready and up."""
        self._path = path
        self._state = Report()
        self._problem = ""

    def read(self) -> Report:
        """The state now; what is new about it is logged."""
        if self._path is None:
            return self._state
        try:
            state = read_state(self._path)
        except BadState as bad:
            if str(bad) != self._problem:
                self._problem = str(bad)
                log.error("%s: what it said before stays", bad)
            return self._state
        self._problem = ""
        if state != self._state:
            self._state = state
            log.info("now %s", write(state).decode().strip())
        return state
