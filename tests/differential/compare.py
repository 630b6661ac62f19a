"""Two engines side by side: the first step at which they differ, and the shortest way there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.conformance.engines.engine import Result
from tests.differential.rules import Reference
from tests.differential.steps import (
    Packet,
    Replan,
    Run,
    Step,
    Subject,
    begin,
    counters_difference,
    difference,
    table_difference,
    take,
)
from tests.differential.traffic import Traffic

_LOOKS: Final = 50
"""Steps between two looks at the connection tables, which cost as much as many packets."""


@dataclass(frozen=True)
class Difference:
    """Two engines differ at the last step of a run."""

    run: Run
    what: str


class Pair:
    """The engine that is right, and the one that is tried."""

    def __init__(self, reference: Reference, tried: Subject) -> None:
        self.reference = reference
        self.tried = tried

    def explore(self, random: Random, length: int) -> tuple[int, Difference | None]:
        """Random traffic of ``length`` steps: how many packets it was, and how it ended."""
        traffic = Traffic(random)
        plan, steps = traffic.plan, list[Step]()
        begin(self.reference, plan)
        begin(self.tried, plan)
        packets = 0
        for number in range(1, length + 1):
            step = traffic.step()
            steps.append(step)
            packets += isinstance(step, Packet)
            result, what = self._take(step, look=number % _LOOKS == 0 or number == length)
            if what is not None:
                return packets, Difference(Run(plan, steps), what)
            traffic.out(step, result)
        what = counters_difference(self.reference, self.tried, traffic.plan)
        return packets, None if what is None else Difference(Run(plan, steps), what)

    def _take(self, step: Step, *, look: bool) -> tuple[Result, str | None]:
        """What the reference made of a step, and what the other one makes otherwise."""
        try:
            got = take(self.tried, step)
        except AssertionError as problem:
            return take(self.reference, step), str(problem)
        self.reference.follow(got)
        wanted = take(self.reference, step)
        what = difference(wanted, got)
        if what is None and look:
            what = table_difference(self.reference, self.tried)
        return wanted, what

    def replay(self, run: Run) -> Difference | None:
        """The first difference, looked for after every step."""
        plan = run.plan
        begin(self.reference, plan)
        begin(self.tried, plan)
        for number, step in enumerate(run.steps, start=1):
            _, what = self._take(step, look=True)
            if isinstance(step, Replan):
                plan = step.plan
            if what is None:
                what = counters_difference(self.reference, self.tried, plan)
            if what is not None:
                return Difference(Run(run.plan, run.steps[:number]), what)
        return None

    def shorten(self, found: Difference) -> Difference:
        """The same with as few steps as possible (Zeller's delta debugging); ``found`` itself if it does
        not show again."""
        best = self.replay(found.run)
        if best is None:
            return found
        size = max(1, len(best.run.steps) // 2)
        while True:
            shorter = self._without_some(best, size)
            if shorter is not None:
                best = shorter
                size = min(size, max(1, len(best.run.steps) // 2))
            elif size > 1:
                size //= 2
            else:
                return best

    def _without_some(self, found: Difference, size: int) -> Difference | None:
        """A run that differs too and lacks ``size`` of the steps before the last."""
        steps = list(found.run.steps)
        for start in range(0, len(steps) - 1, size):
            fewer: Sequence[Step] = steps[:start] + steps[min(start + size, len(steps) - 1) :]
            shorter = self.replay(Run(found.run.plan, fewer))
            if shorter is not None:
                return shorter
        return None
