"""The gateway: places connections and counts what it sees of them, exactly as a datapath does."""

from __future__ import annotations

from random import Random

from l4lb.model import Selection
from l4lb.schedulers.measured import Measured
from simulation.choice import Choice, Load, choice_for


class Traffic(Load):
    """What is counted of one backend."""

    __slots__ = ("answer_time", "answers", "begun", "failures", "half_open", "opened")

    def __init__(self) -> None:
        super().__init__()
        self.half_open = 0
        self.begun = 0.0  # the sum of the moments at which the requests under way began
        self.opened = 0  # since the last look, as are the next ones
        self.answers = 0
        self.answer_time = 0.0
        self.failures = 0


class Gateway:
    """The select and track steps for one service. Backends are known by their index."""

    def __init__(self, backends: int, random: Random) -> None:
        self.traffic = [Traffic() for _ in range(backends)]
        self._loads: list[Load] = [*self.traffic]
        self._random = random
        self._turn = 0
        self._choice: Choice | None = None

    def apply(self, selection: Selection) -> None:
        """Place connections by this selection from now on."""
        self._choice = choice_for(selection, self._loads, self._random, self._turn)

    def open(self) -> int | None:
        """A SYN: the backend of the new connection, None if there is none."""
        assert self._choice is not None
        index = self._choice.choose()
        self._turn += 1
        if index is not None:
            traffic = self.traffic[index]
            traffic.opened += 1
            traffic.half_open += 1
            traffic.in_flight += 1
            self._choice.moved(index)
        return index

    def established(self, index: int) -> None:
        """The handshake is over."""
        traffic = self.traffic[index]
        traffic.half_open -= 1
        traffic.in_flight -= 1
        traffic.idle += 1
        self._moved(index)

    def refused(self, index: int) -> None:
        """The handshake was answered with a reset."""
        traffic = self.traffic[index]
        traffic.half_open -= 1
        traffic.in_flight -= 1
        traffic.failures += 1
        self._moved(index)

    def asked(self, index: int, now: float) -> None:
        """The first packet of a request on an established connection."""
        traffic = self.traffic[index]
        traffic.idle -= 1
        traffic.in_flight += 1
        traffic.begun += now
        self._moved(index)

    def answered(self, index: int, began: float, now: float) -> None:
        """The first packet of the answer to the request that began then."""
        traffic = self.traffic[index]
        traffic.in_flight -= 1
        traffic.idle += 1
        traffic.begun -= began
        traffic.answers += 1
        traffic.answer_time += now - began
        self._moved(index)

    def aborted(self, index: int, began: float, *, by_backend: bool) -> None:
        """A reset of a connection whose request, which began then, is not answered."""
        traffic = self.traffic[index]
        traffic.in_flight -= 1
        traffic.begun -= began
        traffic.failures += by_backend
        self._moved(index)

    def closed(self, index: int) -> None:
        """The end of a connection that waited for nothing."""
        self.traffic[index].idle -= 1
        self._moved(index)

    def look(self, index: int, now: float) -> Measured:
        """What was counted of a backend since the last look, and what stands now."""
        traffic = self.traffic[index]
        outstanding = traffic.in_flight - traffic.half_open
        measured = Measured(
            outstanding=outstanding,
            idle=traffic.idle,
            opened=traffic.opened,
            answers=traffic.answers,
            answer_time=traffic.answer_time,
            waiting=max(0.0, outstanding * now - traffic.begun) if outstanding else 0.0,
            failures=traffic.failures,
        )
        if not outstanding:
            traffic.begun = 0.0  # forget what rounding has left
        traffic.opened = traffic.answers = traffic.failures = 0
        traffic.answer_time = 0.0
        return measured

    def _moved(self, index: int) -> None:
        assert self._choice is not None
        self._choice.moved(index)
