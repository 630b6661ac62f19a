"""The log lines of backends that come up and go down."""

from __future__ import annotations

import logging

from l4lb.health.rise_fall import Health, HealthState
from l4lb.model import BackendKey, Counters, Endpoint

log = logging.getLogger(__name__)


class HealthLog:
    """Transitions wait here until it is known how many connections they concern."""

    def __init__(self) -> None:
        self._waiting: list[tuple[BackendKey, Health]] = []

    def note(self, service: str, backend: Endpoint, health: Health) -> None:
        """A backend's state has changed, or whether it is usable."""
        self._waiting.append(((service, backend), health))

    @property
    def concerns_connections(self) -> bool:
        """Whether a backend that went down is among those that wait."""
        return any(health.state is HealthState.DOWN for _, health in self._waiting)

    def write(self, counters: Counters | None) -> None:
        """Log all that wait; ``counters`` are from before the datapath knew, None if unknown."""
        waiting, self._waiting = self._waiting, []
        for (service, backend), health in waiting:
            if health.state is HealthState.DOWN:
                log.warning(
                    "backend %s %s is down: %s; %s%s",
                    service,
                    backend,
                    health.reason or "its check failed",
                    _since(health),
                    _held((service, backend), counters),
                )
            elif not health.usable:
                log.warning("backend %s %s gets no new connections: %s", service, backend, health.against)
            else:
                log.info("backend %s %s is %s", service, backend, health.state.value)


def _since(health: Health) -> str:
    if health.passed is None or health.last_check is None:
        return "no check has passed yet"
    return f"no check has passed for {health.last_check - health.passed:.1f} s"


def _held(target: BackendKey, counters: Counters | None) -> str:
    traffic = counters and counters.backends.get(target)
    if not traffic:
        return ""
    count = traffic.half_open + traffic.established
    return f" (held {count} connection{'' if count == 1 else 's'})"
