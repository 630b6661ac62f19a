"""How the clients of a service use their connections, and so what an idle connection is worth. Pure.

A new connection of ``m`` requests meets what is in flight now with its first request only. The others
come when what is busy now is long idle and the other way round; then every connection of the backend
is busy with the same probability, the duty cycle ``d``. So what a connection that is in flight now
costs the new one is 1/m + (1 - 1/m) * d a request, and one that is idle now (1 - 1/m) * d. Their
ratio is 0 for connections of one request (then only what is in flight counts) and nears 1 for long
ones (then it is the number of connections, as in least_connection).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp
from typing import Final

from l4lb.model import WHOLE
from l4lb.schedulers.estimate import count
from l4lb.schedulers.measured import Measured

MEMORY: Final = 60.0
"""Seconds over which habits are averaged. They change slowly, and a connection should have the time
to show all its requests."""


@dataclass(frozen=True, slots=True)
class Habits:
    """Sums over the last MEMORY seconds, fading."""

    looked: float = 0.0
    opened: float = 0.0  # connections
    answers: float = 0.0
    outstanding: float = 0.0  # connections that waited for an answer, at each look
    established: float = 0.0  # all connections, at each look

    @property
    def first(self) -> float:
        """Part of the requests that are the first of their connection: 1 where each has one of its own, or
        nobody knows."""
        return min(1.0, self.opened / self.answers) if self.answers else 1.0

    @property
    def idle(self) -> int:
        """What an idle connection counts, in 1/256 of one in flight: 0 to 256. While nobody has seen what
        they are for it counts in full: many that are opened in advance would else all go to one backend."""
        if not self.established or not self.answers:
            return WHOLE
        duty = self.outstanding / self.established
        later = (1 - self.first) * duty
        return round(WHOLE * later / (self.first + later)) if later else 0


def observe(habits: Habits, seen: Iterable[Measured], now: float) -> Habits:
    """Learn from one look at all backends."""
    fade = exp(-max(0.0, now - habits.looked) / MEMORY)
    opened = answers = outstanding = idle = 0.0
    for measured in seen:
        opened += count(measured.opened)
        answers += count(measured.answers)
        outstanding += count(measured.outstanding)
        idle += count(measured.idle)
    return Habits(
        looked=max(now, habits.looked),
        opened=habits.opened * fade + opened,
        answers=habits.answers * fade + answers,
        outstanding=habits.outstanding * fade + outstanding,
        established=habits.established * fade + outstanding + idle,
    )
