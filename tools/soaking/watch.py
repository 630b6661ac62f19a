"""Whether what is counted of each backend can be true, and whether it comes back to 0. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_SIGN = 1 << 31
"""The programs count in 32 bits: what is below 0 looks like so many or more."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Connections of one backend, and requests that it has not begun to answer."""

    half_open: int
    established: int
    outstanding: int

    @classmethod
    def of(cls, backend: Mapping[str, Any]) -> Self:
        """Of a backend as ``l4lb backend list --json`` has it."""
        return cls(backend["half_open"], backend["established"], backend["outstanding"])

    @property
    def wrong(self) -> str:
        """Why they cannot be true; empty if they can. A connection has one request outstanding at most, and
        one of UDP has it while it is half-open, too."""
        for name in ("half_open", "established", "outstanding"):
            if not 0 <= getattr(self, name) < _SIGN:
                return f"{name} is below 0"
        if self.outstanding > self.half_open + self.established:
            return (
                f"{self.outstanding} outstanding of {self.established} established and {self.half_open} "
                "half-open connections"
            )
        return ""


class Watch:
    """Looks again and again. CPUs count at the same time, so something may be wrong for as long as a packet
    takes: a fault is what is wrong at two looks in a row."""

    def __init__(self) -> None:
        self.looks = 0
        self.faults: dict[str, str] = {}
        """By backend, the first of each."""
        self.most = Counts(0, 0, 0)
        """The most that one backend ever had of each."""
        self._suspects: set[str] = set()

    def look(self, counted: Mapping[str, Counts]) -> None:
        """What is counted now, by backend."""
        wrong = {name: why for name, counts in counted.items() if (why := counts.wrong)}
        for name in wrong.keys() & self._suspects:
            self.faults.setdefault(name, wrong[name])
        self._suspects = set(wrong)
        self.looks += 1
        for counts in counted.values():
            if not counts.wrong:
                self.most = Counts(
                    max(self.most.half_open, counts.half_open),
                    max(self.most.established, counts.established),
                    max(self.most.outstanding, counts.outstanding),
                )


def left(counted: Mapping[str, Counts]) -> dict[str, Counts]:
    """What has not come back to 0."""
    return {name: counts for name, counts in counted.items() if counts != Counts(0, 0, 0)}
