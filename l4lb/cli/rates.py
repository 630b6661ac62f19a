"""How fast a backend's counters grow, from two looks at them. Pure but for ``measure``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l4lb.model import Times
from l4lb.times import from_ends, since

Backends = Sequence[Mapping[str, Any]]

Target = tuple[str, str]
"""A backend of a service: the service's name and the backend's address."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one backend, per second; ``bits_in`` is what clients sent it, in IP packets."""

    connections: float
    bits_in: float
    bits_out: float
    answers: float = 0.0
    responses: Times = field(default_factory=Times)  # those answers


def measure(
    look: Callable[[], Backends],
    interval: float,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> tuple[Backends, dict[Target, Rates]]:
    """Look twice, ``interval`` seconds apart.

    Returns:
        The backends at the second look, and their ``rates``.
    """
    began, before = clock(), look()
    wait(interval)
    ended, now = clock(), look()
    return now, rates(before, now, ended - began)


def rates(before: Backends, now: Backends, seconds: float) -> dict[Target, Rates]:
    """The rates of the backends of a look, ``seconds`` after another. A backend that is new, whose counters
    began anew in between, or that was not counted because the datapath was being restarted, has none."""
    old = {target(backend): backend for backend in before}
    found = {
        target(backend): _growth(old[target(backend)], backend, seconds)
        for backend in now
        if target(backend) in old and backend["counted"] and old[target(backend)]["counted"]
    }
    return {which: each for which, each in found.items() if each is not None}


def target(backend: Mapping[str, Any]) -> Target:
    """Which one it is."""
    return backend["service"], backend["address"]


def _growth(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> Rates | None:
    grown = [now[name] - before[name] for name in ("connections_total", "bytes_in", "bytes_out")]
    answers = now["responses"]["count"] - before["responses"]["count"]
    if min(*grown, answers) < 0:
        return None
    connections, bytes_in, bytes_out = (count / seconds for count in grown)
    return Rates(
        connections,
        8 * bytes_in,
        8 * bytes_out,
        answers / seconds,
        since(_times(now["responses"]), _times(before["responses"])),
    )


def _times(report: Mapping[str, Any]) -> Times:
    return Times(report["count"], report["total"], report["average"] or 0.0, from_ends(report["buckets"]))
