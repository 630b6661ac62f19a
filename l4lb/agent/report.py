"""The words of the agent: what a backend can say of itself. Frozen values, no behaviour.

The two kinds of state are those of HAProxy's agent-check (configuration manual 2.6, 5.2): the
*administrative* one is somebody's wish, the *operating* one is how the service is. Each is set and
taken back by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Administrative(IntEnum):
    """What somebody wants of the backend. The numbers are those in packets."""

    READY = 0
    DRAIN = 1  # no new connections
    MAINT = 2  # out of service: no new connections, and checks mean nothing

    @property
    def label(self) -> str:
        """The word of the line protocol."""
        return self.name.lower()


class Operating(IntEnum):
    """How the service is. The numbers are those in packets."""

    UP = 0
    DOWN = 1
    FAIL = 2  # it runs, but fails a test of its own
    STOPPED = 3  # on purpose

    @property
    def label(self) -> str:
        """The word of the line protocol."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on a backend; None is what nobody knows."""

    cpu: float | None = None  # busy share of all CPUs, 0..1, averaged
    memory: float | None = None  # share that is not available to programs, 0..1
    load: float | None = None  # one-minute load average for each CPU, 0..LARGEST_LOAD
    queue: float | None = None  # the fullest accept queue over its backlog, 0..1, averaged
    application: float | None = None  # the application's own figure: 0 idle, 1 full


LARGEST_LOAD: Final = 10_000.0
"""A load for each CPU above this is not believed: Linux has at most 4,194,304 threads (PID_MAX_LIMIT)."""

LARGEST: Final = {"cpu": 1.0, "memory": 1.0, "load": LARGEST_LOAD, "queue": 1.0, "application": 1.0}
"""The largest value of each figure, in the order in which they are in packets."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that an agent says at once."""

    figures: Figures = Figures()
    administrative: Administrative = Administrative.READY
    operating: Operating = Operating.UP
    weight: float | None = None  # share of the configured weight, 1 all of it; only in lines
    note: str = ""  # why it is down; only in lines
    uptime: int = 0  # seconds that the agent runs; only in packets
    sequence: int = 0  # answers of the agent before this one, modulo 2**32; only in packets
