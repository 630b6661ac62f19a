"""Clients that come one after the other, each with one request, while something happens to the lab."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from netlab.ask import ask
from netlab.namespace import entered

_PACE: Final = 0.01  # seconds between two visitors
_PATIENCE: Final = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Visit:
    """One request: when it ended, on the monotonic clock, and how."""

    ended: float
    backend: str  # empty if it failed
    error: str = ""


class Visitors(threading.Thread):
    """They come while the ``with`` block runs; those that the block begins with have come."""

    def __init__(self, namespace: str, address: str) -> None:
        super().__init__(daemon=True)
        self.visits: list[Visit] = []
        self._namespace = namespace
        self._address = address
        self._enough = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._enough.set()
        self.join()

    def run(self) -> None:
        """Called by ``start``. A thread has a network namespace of its own."""
        with entered(self._namespace):
            while not self._enough.wait(_PACE):
                try:
                    backend, error = ask(self._address, _PATIENCE), ""
                except OSError as problem:
                    backend, error = "", problem.strerror or str(problem)
                self.visits.append(Visit(time.monotonic(), backend, error))

    def since(self, moment: float) -> list[Visit]:
        """The visits that ended after a moment."""
        return [visit for visit in self.visits if visit.ended > moment]

    def served_since(self, moment: float) -> Counter[str]:
        """How many of them each backend served."""
        return Counter(visit.backend for visit in self.since(moment) if visit.backend)
