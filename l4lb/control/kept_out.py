"""Which backends get no new connections because their agents say so, since when, and the log of that."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from l4lb.health.agents.reports import Sight
from l4lb.model import BackendKey

log = logging.getLogger(__name__)


class KeptOut:
    """What has come of the agents' words, by the plan in force."""

    def __init__(self) -> None:
        """Begin with no plan."""
        self._since: dict[BackendKey, float] = {}  # of those that are kept out, seconds
        self._used: set[BackendKey] = set()  # against the word of their agents

    def since(self, target: BackendKey) -> float | None:
        """Since when a backend's agent keeps new connections from it; None if it does not."""
        return self._since.get(target)

    def note(self, sights: Mapping[BackendKey, Sight], chosen: Collection[BackendKey], now: float) -> None:
        """Another plan is in force.

        Args:
            sights: the backends that have agents and a weight, as the plan has taken them.
            chosen: the backends that get new connections, of all services where an agent is against it.
            now: seconds.
        """
        before = self._since.keys() | self._used
        unwilling = {target for target, sight in sights.items() if sight.wish.none}
        out = unwilling - set(chosen)
        for target, sight in sights.items():
            if target in out and target not in self._since:
                log.log(
                    logging.WARNING if sight.wish.down else logging.INFO,
                    "backend %s %s gets no new connections, by its agent: %s",
                    *target,
                    sight.said,
                )
            elif target in unwilling - out and target not in self._used:
                log.warning(
                    "backend %s %s gets new connections as no other does, against its agent: %s",
                    *target,
                    sight.said,
                )
            elif target in before - unwilling:
                log.info("backend %s %s may have new connections, by its agent: %s", *target, sight.said)
        self._since = {target: self._since.get(target, now) for target in out}
        self._used = unwilling - out
