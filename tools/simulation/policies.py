"""The policies that are compared: what the control plane does with the scheduler of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from l4lb.model import Costs, Selection
from l4lb.schedulers import Candidate, adaptive, compile_selection
from l4lb.schedulers.least_connection import UNIT, connection_costs
from l4lb.schedulers.measured import Measured

SHUNNED: Final = 20  # what a slow backend costs the oracles: they take it if all others are very busy
LATE: Final = 0.15  # seconds after which one of them knows: some three answers of a backend that is well


class Policy(ABC):
    """Decides the selection of the service."""

    watches = False
    """True if it wants to look at the datapath's counters, as often as the control plane does."""

    told_after: float | None = None
    """Seconds after which somebody tells it that a backend's speed has changed; None: nobody does."""

    @abstractmethod
    def select(self, candidates: Sequence[Candidate], now: float) -> Selection:
        """The selection for these candidates, after what was seen so far."""

    def observe(self, measured: Mapping[int, Measured], now: float) -> None:  # noqa: B027
        """What the datapath has counted, by the backend's index."""

    def tell(self, backend: int, speed: float | None) -> None:  # noqa: B027
        """A backend's speed has changed; None: it went down."""


class _Fixed(Policy):
    def __init__(self, compile_one: Callable[[Sequence[Candidate]], Selection]) -> None:
        self._compile = compile_one

    def select(self, candidates: Sequence[Candidate], now: float) -> Selection:
        return self._compile(candidates)


class _Adaptive(Policy):
    watches = True

    def __init__(self) -> None:
        self._pool = adaptive.Pool()
        self._candidates: Sequence[Candidate] = ()

    def select(self, candidates: Sequence[Candidate], now: float) -> Selection:
        self._candidates = candidates
        return adaptive.costs(candidates, self._pool, now)

    def observe(self, measured: Mapping[int, Measured], now: float) -> None:
        seen = {it.address: measured[it.index] for it in self._candidates}
        self._pool = adaptive.observe(self._pool, seen, now)


class _Oracle(Policy):
    """Knows how fast each backend is, and nothing else that adaptive does not know."""

    def __init__(self, told_after: float) -> None:
        self.told_after = told_after
        self._slow: set[int] = set()

    def select(self, candidates: Sequence[Candidate], now: float) -> Selection:
        costs = tuple((it.index, UNIT * (SHUNNED if it.index in self._slow else 1)) for it in candidates)
        return Costs(costs)

    def tell(self, backend: int, speed: float | None) -> None:
        if speed is not None and speed >= 1:
            self._slow.discard(backend)
        else:
            self._slow.add(backend)


def _two_choices(candidates: Sequence[Candidate]) -> Selection:
    """The power of two random choices, by connections (M. Mitzenmacher, IEEE TPDS 12(10), 2001)."""
    return Costs(connection_costs(candidates).costs, candidates=2)


def _by_name(name: str) -> Callable[[], Policy]:
    return lambda: _Fixed(lambda candidates: compile_selection(name, candidates))


POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {
    "round_robin": _by_name("round_robin"),
    "random": _by_name("random"),
    "least_connection": _by_name("least_connection"),
    "two_choices": lambda: _Fixed(_two_choices),
    "adaptive": _Adaptive,
}

BOUNDS: Final[Mapping[str, Callable[[], Policy]]] = {
    "oracle": lambda: _Oracle(0.0),
    "late_oracle": lambda: _Oracle(LATE),
}
"""What no policy can do, to see how far one could get by knowing more, or sooner. For connections of one
request: the oracles count no idle ones."""
