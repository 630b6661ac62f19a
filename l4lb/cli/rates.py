"""How fast a backend's counters grow, from two looks at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Backends = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one backend, per second; ``bits_in`` is what clients sent it, in IP packets."""

    connections: float
    bits_in: float
    bits_out: float


def measure(
    look: Callable[[], Backends],
    interval: float,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> tuple[Backends, dict[tuple[str, str], Rates]]:
    """Look twice, ``interval`` seconds apart.

    Returns:
        The backends at the second look, and their rates by service and address. A backend that is
        new, or whose counters began anew in between, has no rates.
    """
    began, before = clock(), {_key(backend): backend for backend in look()}
    wait(interval)
    ended, now = clock(), look()
    rates = {}
    for backend in now:
        old = before.get(_key(backend))
        grown = [
            backend[name] - old[name] if old else -1
            for name in ("connections_total", "bytes_in", "bytes_out")
        ]
        if min(grown) >= 0:
            connections, bytes_in, bytes_out = (count / (ended - began) for count in grown)
            rates[_key(backend)] = Rates(connections, bytes_in * 8, bytes_out * 8)
    return now, rates


def _key(backend: Mapping[str, Any]) -> tuple[str, str]:
    return backend["service"], backend["address"]
