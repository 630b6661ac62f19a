"""What happens when: a heap of moments and actions. The only clock of a simulation."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any


class Events:
    """Actions in the order of their moments; at the same moment in the order they were planned."""

    __slots__ = ("_heap", "_order", "now")

    def __init__(self) -> None:
        self.now = 0.0  # seconds
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        """Plan an action; a moment that has passed is now."""
        heappush(self._heap, (max(moment, self.now), next(self._order), action, arguments))

    def run(self, until: float) -> None:
        """Let everything happen that is planned before ``until``, and what comes of it."""
        heap = self._heap
        while heap and heap[0][0] < until:
            self.now, _, action, arguments = heappop(heap)
            action(*arguments)
        self.now = until
