"""How long ago traffic has last shown that a backend answers, from the datapath's counters. Pure.

The counters say how many connections began and how many packets came back, not which belong together. A
backend counts as measured when, since a look at which new connections had been counted, it has sent
packets. On a backend with long connections beside the new ones that can be wrong for one look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Protocol

from l4lb.model import Endpoint, Traffic

BackendKey = tuple[str, Endpoint]
"""The service's name and the backend's address."""


class Freshness(Protocol):
    """What traffic has shown, and when."""

    def note(self, traffic: Mapping[BackendKey, Traffic], now: float) -> None:
        """The datapath's counters as they are now."""
        ...

    def age(self, service: str, backend: Endpoint, now: float) -> float:
        """Seconds since traffic last measured a backend; infinite if it never has."""
        ...


@dataclass(slots=True)
class _Seen:
    traffic: Traffic
    unanswered: bool = False  # a connection has begun and no packet has come back since
    measured: float = -inf


class TrafficAge:
    """``Freshness`` by new connections that were answered."""

    def __init__(self) -> None:
        self._seen: dict[BackendKey, _Seen] = {}

    def note(self, traffic: Mapping[BackendKey, Traffic], now: float) -> None:
        """See ``Freshness``. Counters that went down have begun anew."""
        self._seen = {key: self._noted(key, counted, now) for key, counted in traffic.items()}

    def age(self, service: str, backend: Endpoint, now: float) -> float:
        """See ``Freshness``."""
        seen = self._seen.get((service, backend))
        return inf if seen is None else now - seen.measured

    def _noted(self, key: BackendKey, counted: Traffic, now: float) -> _Seen:
        seen = self._seen.get(key)
        if seen is None or counted.connections_total < seen.traffic.connections_total:
            return _Seen(counted)
        if counted.connections_total > seen.traffic.connections_total:
            seen.unanswered = True
        if seen.unanswered and counted.packets_out > seen.traffic.packets_out:
            seen.unanswered = False
            seen.measured = now
        seen.traffic = counted
        return seen
