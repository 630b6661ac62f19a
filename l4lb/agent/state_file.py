"""The state that somebody wants a backend to have: words in a file. Edge: files.

The words of HAProxy's agent-check, so that ``echo drain > FILE`` drains and ``echo 'down # disk full' >
FILE`` takes down; without the file the backend is ready and up.
"""

from __future__ import annotations

from pathlib import Path

from l4lb.agent.haproxy_line import LONGEST, BadLine, Line, parse, write
from l4lb.agent.report import Report
from l4lb.agent.small_files import Followed, read_small
from l4lb.privileges import refusal


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
        raise BadState(f"{path}: {refusal(error)}") from None
    try:
        line = parse(data + b"\n")
    except BadLine as bad:
        raise BadState(f"{path}: {bad}") from None
    if line != Line(line.administrative, line.operating, description=line.description):
        raise BadState(f"{path}: only ready, drain, maint, up, down, fail and stopped can stand here")
    return line.applied_to(Report())


def wanted_state(path: Path | None) -> Followed[Report]:
    """The state in a file, followed over time; ``path`` None: always ready and up."""
    return Followed(
        lambda: Report() if path is None else read_state(path),
        Report(),
        lambda state: f"now {write(state).decode().strip()}",
    )
