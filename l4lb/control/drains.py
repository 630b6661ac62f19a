"""Which backends were drained, since when, and the weight each goes back to. Pure.

A drained backend has weight 0 in the config, so the weight it had before must be remembered; a
restart of the daemon forgets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l4lb.model import BackendKey, Service


@dataclass(frozen=True, slots=True)
class Drain:
    """A backend without new connections."""

    since: float  # seconds, the clock of ``now``
    weight: int = 1  # what ``enable`` goes back to


class Drains:
    """The drains of the config in force."""

    def __init__(self) -> None:
        self._drains: dict[BackendKey, Drain] = {}
        self._weights: dict[BackendKey, int] = {}

    def note(self, services: Sequence[Service], now: float) -> None:
        """Another config is in force."""
        weights = {
            (service.name, backend.address): backend.weight
            for service in services
            for backend in service.backends
        }
        self._drains = {
            target: self._drains.get(target) or Drain(now, self._weights.get(target, 1))
            for target, weight in weights.items()
            if weight == 0
        }
        self._weights = weights

    def get(self, target: BackendKey) -> Drain | None:
        """The drain of a backend, None if it takes new connections."""
        return self._drains.get(target)
