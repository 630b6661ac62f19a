"""The policies that are compared: what the control plane does with the scheduler of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from l4lb.model import Costs, Selection
from l4lb.schedulers import Candidate, adaptive, compile_selection
from l4lb.schedulers.least_connection import connection_costs
from l4lb.schedulers.measured import Measured

LOOK: Final = 0.1  # seconds between two looks at the datapath's counters


class Policy(Protocol):
    """Decides the selection of the service."""

    watches: bool
    """True if it wants to look every LOOK seconds."""

    def select(self, candidates: Sequence[Candidate], now: float) -> Selection:
        """The selection for these candidates, after what was seen so far."""
        ...

    def observe(self, measured: Mapping[int, Measured], now: float) -> None:
        """What the datapath has counted, by the backend's index."""
        ...


class _Fixed:
    watches = False

    def __init__(self, compile_one: Callable[[Sequence[Candidate]], Selection]) -> None:
        self._compile = compile_one

    def select(self, candidates: Sequence[Candidate], now: float) -> Selection:
        return self._compile(candidates)

    def observe(self, measured: Mapping[int, Measured], now: float) -> None:
        pass


class _Adaptive:
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
