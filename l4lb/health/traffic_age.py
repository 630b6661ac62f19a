"""How long ago traffic has last shown what a probe would show, from the datapath's counters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Protocol

from l4lb.health.probes.result import ProbeKind
from l4lb.model import BackendKey, Endpoint, Traffic


class Freshness(Protocol):
    """What traffic has shown, and when."""

    def note(self, traffic: Mapping[BackendKey, Traffic], now: float) -> None:
        """The datapath's counters as they are now."""
        ...

    def age(self, service: str, backend: Endpoint, kind: ProbeKind, now: float) -> float:
        """Seconds since traffic last measured what a probe of this kind would; infinite if it never has."""
        ...


@dataclass(slots=True)
class _Seen:
    handshakes: int
    responses: int
    shook_hands: float = -inf
    responded: float = -inf


class TrafficAge:
    """``Freshness`` by what the datapath has timed in passing: a handshake or a response shows what a SYN
    probe would, a response what an HTTP probe would. So a server whose kernel goes on shaking hands for it
    while it has stalled is asked over HTTP, however much traffic it has."""

    def __init__(self) -> None:
        self._seen: dict[BackendKey, _Seen] = {}

    def note(self, traffic: Mapping[BackendKey, Traffic], now: float) -> None:
        """See ``Freshness``. Counters that went down have begun anew."""
        self._seen = {key: self._noted(key, counted, now) for key, counted in traffic.items()}

    def age(self, service: str, backend: Endpoint, kind: ProbeKind, now: float) -> float:
        """See ``Freshness``."""
        seen = self._seen.get((service, backend))
        if seen is None:
            return inf
        # Who answers requests is reached, too, on connections that are kept for long.
        return now - (max(seen.shook_hands, seen.responded) if kind is ProbeKind.SYN else seen.responded)

    def _noted(self, key: BackendKey, counted: Traffic, now: float) -> _Seen:
        handshakes, responses = counted.handshakes.count, counted.responses.count
        seen = self._seen.get(key)
        if seen is None:
            return _Seen(handshakes, responses)
        if handshakes > seen.handshakes:
            seen.shook_hands = now
        if responses > seen.responses:
            seen.responded = now
        seen.handshakes, seen.responses = handshakes, responses
        return seen
