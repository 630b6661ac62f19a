"""What is known of how a backend is doing, in words, each with its age: for ``l4lb explain``. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from l4lb.health.agents.reports import Sight
from l4lb.model import Endpoint
from l4lb.schedulers import adaptive
from l4lb.schedulers.adaptive import Pool

_JUST_NOW = 0.5
"""Seconds: newer than this is said without an age."""

_KEPT = 0.9
"""Part of the requests that are the first of their connection, below which it matters what lasts."""


def signals(
    pool: Pool | None, shares: Mapping[Endpoint, float], agents: Mapping[Endpoint, Sight], now: float
) -> dict[Endpoint, dict[str, str]]:
    """By backend: name of the signal -> value and age.

    Args:
        pool: of an adaptive service.
        shares: of its new connections, in parts of the usual one.
        agents: of the backends that have one.
        now: seconds, on the clock of the pool.
    """
    found: dict[Endpoint, dict[str, str]] = {address: {} for address in agents}
    pool = pool or Pool()
    for address, estimate in pool.backends.items():
        said = found.setdefault(address, {})
        quiet, age = now - estimate.asked, now - estimate.since
        if age < adaptive.SLOW_START:
            said["slow start"] = f"new, {age:.0f} s"
        if estimate.response_time is not None:
            said["response"] = _aged(f"{1_000 * estimate.response_time:.3g}ms", quiet)
        said["slowness"] = _aged(f"x{estimate.price(now):.2g}", quiet)
        if pool.habits.first < _KEPT:
            said["lasting"] = f"x{estimate.lasting / pool.lasting:.2g}"
        elif address in shares:
            said["share"] = f"{100 * shares[address]:.0f}%"
        if adaptive.fails(pool, address, now):
            said["fails"] = "yes"
    for address, sight in agents.items():
        figures = sight.report.figures if sight.report is not None else None
        used = (
            [
                f"{name} {100 * share:.0f}%"
                for name, share in (("cpu", figures.cpu), ("memory", figures.memory))
                if share is not None
            ]
            if figures is not None
            else []
        )
        said_it = ", ".join(filter(None, (sight.state.value, *used, sight.part)))
        found[address]["agent"] = _aged(said_it, sight.age or 0.0)
    return found


def _aged(text: str, age: float) -> str:
    return text if age < _JUST_NOW else f"{text}, {age:.0f}s ago"
