"""Which backends were drained, since when, and the weight each goes back to. Pure.

A drained backend has weight 0 in the config, so the weight it had before must be remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from l4lb.model import BackendKey, Service


@dataclass(frozen=True, slots=True)
class Drain:
    """A backend without new connections."""

    since: float  # seconds, the clock of ``now``
    weight: int | None = None  # before; None: it is not known


class Drains:
    """The drains of the config in force."""

    def __init__(self, before: Mapping[BackendKey, int]) -> None:
        """``before``: the weights of backends that were drained when a daemon before ended."""
        self._drains: dict[BackendKey, Drain] = {}
        self._weights = dict(before)

    @property
    def weights(self) -> dict[BackendKey, int]:
        """The weights that drained backends had, of those of which it is known."""
        return {target: drain.weight for target, drain in self._drains.items() if drain.weight is not None}

    def note(self, services: Sequence[Service], now: float) -> None:
        """Another config is in force."""
        weights = {
            (service.name, backend.address): backend.weight
            for service in services
            for backend in service.backends
        }
        self._drains = {
            target: self._drains.get(target) or Drain(now, self._weights.get(target))
            for target, weight in weights.items()
            if weight == 0
        }
        self._weights = weights

    def get(self, target: BackendKey) -> Drain | None:
        """The drain of a backend, None if it takes new connections."""
        return self._drains.get(target)
