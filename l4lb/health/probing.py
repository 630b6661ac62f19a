"""Which probe is sent next, and what is known from the last ones: need and budget together. Pure.

    look    the datapath's counters -> how each backend stands, and how fast the budget fills
    next    the probe to send now, if a backend wants one and the budget has it
    finish  what it came to

Services with an HTTP check are asked what the check asks, other TCP services by SYN. UDP services have no
question that every server answers, and are not probed; nor are backends that are down or drained, which get
no new connections whatever a probe might show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final

from l4lb.health.budget import Budget
from l4lb.health.need import Needs, Standing, standing
from l4lb.health.probes.result import Outcome, ProbeKind, ProbeResult
from l4lb.health.rise_fall import Health
from l4lb.health.traffic_age import Freshness
from l4lb.model import BackendKey, Counters, Endpoint, HealthCheck, Protocol, Service, Verdict

MAX_AT_ONCE: Final = 512
"""Probes under way. An HTTP probe holds a file descriptor, of which a process has 1,024 by default."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe to be sent."""

    backend: BackendKey
    kind: ProbeKind
    target: Endpoint
    check: HealthCheck  # its timeout; for HTTP its question


@dataclass(frozen=True, slots=True)
class LastProbe:
    """What the last probe of a backend came to, and when it was over."""

    kind: ProbeKind
    result: ProbeResult
    at: float


@dataclass(frozen=True, slots=True)
class ProbeCounters:
    """Since the start, without the questions to agents. Probes, except where it says packets."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    wrong: int = 0
    lost: int = 0
    unsent: int = 0  # could not be sent, by a fault of this host
    late: int = 0  # answers that came after their probe was given up
    forged: int = 0  # answers with a wrong acknowledgement number
    withheld: int = 0  # were wanted and the budget did not allow them
    packets: int = 0  # caused by probes, in both directions
    forwarded_packets: int = 0  # by the datapath


class Probing:
    """Decides on the probes of all services. Times are seconds on one clock."""

    def __init__(
        self,
        budget: Budget,
        *,
        random: Random,
        freshness: Freshness,
        shunned: Callable[[str, Endpoint], bool],
    ) -> None:
        """Begin with no services.

        Args:
            budget: what may be spent, by others too.
            random: spreads the probes.
            freshness: what traffic has measured by itself.
            shunned: whether a service's scheduler keeps new connections from a backend.
        """
        self._enabled = False
        self._budget = budget
        self._needs: Needs[BackendKey] = Needs(random)
        self._freshness = freshness
        self._shunned = shunned
        self._probes: dict[BackendKey, Probe] = {}
        self._under_way: set[BackendKey] = set()
        self._last: dict[BackendKey, LastProbe] = {}
        self._outcomes: Counter[Outcome] = Counter()
        self._packets = 0  # that probes caused
        self._forwarded: int | None = None  # at the last look
        self._forwarded_since = 0

    def update(self, services: Sequence[Service], now: float, *, enabled: bool) -> None:
        """Probe the backends of these services from the next ``look`` on, and no others; if not
        ``enabled``, nobody."""
        self._enabled = enabled
        self._probes = {
            (service.name, backend.address): _probe_of(service, backend.address)
            for service in services
            if service.protocol is Protocol.TCP
            for backend in service.backends
            if backend.weight
        }
        for gone in self._last.keys() - self._probes.keys():
            del self._last[gone]
        for gone in set(self._needs) - self._probes.keys():
            self._needs.remove(gone, now)

    def sorts(self) -> set[tuple[ProbeKind, int]]:
        """The kinds of probes that may be sent, each with the version of IP."""
        return (
            {(each.kind, each.target.version) for each in self._probes.values()} if self._enabled else set()
        )

    def look(self, counters: Counters, health: Callable[[str, Endpoint], Health], now: float) -> None:
        """Take note of the datapath's counters and of how the backends are. O(n)."""
        forwarded = counters.verdicts.get(Verdict.FORWARD, 0)
        if self._forwarded is not None:
            grown = forwarded - self._forwarded
            self._forwarded_since += grown if grown >= 0 else forwarded
        self._forwarded = forwarded
        self._budget.look(forwarded, now)
        self._freshness.note(counters.backends, now)
        for backend, probe in self._probes.items():
            known = health(*backend)
            if self._enabled and known.usable:
                self._needs.place(backend, self._standing(probe, known, now), now)
            else:
                self._needs.remove(backend, now)

    def next(self, now: float) -> Probe | None:
        """A probe to send now, if there is one; it is under way until ``finish``."""
        if len(self._under_way) >= MAX_AT_ONCE:
            return None
        while (backend := self._needs.first(now)) in self._under_way:
            self._needs.serve(backend, now)  # the one before waits for its answer still
        if backend is None or not self._budget.take(self._probes[backend].kind.cost, now):
            return None
        self._needs.serve(backend, now)
        self._under_way.add(backend)
        return self._probes[backend]

    def wait(self, now: float) -> float:
        """Seconds until ``next`` may have a probe, if no ``look`` changes that before."""
        due = self._needs.next_due()
        if due is None:
            return inf
        first = self._needs.first(now)
        return due - now if first is None else self._budget.wait(self._probes[first].kind.cost, now)

    def finish(self, probe: Probe, result: ProbeResult, now: float) -> None:
        """A probe is over."""
        self._under_way.discard(probe.backend)
        self._budget.owe(max(0, result.packets - probe.kind.cost))
        self._outcomes[result.outcome] += 1
        self._packets += result.packets
        if probe.backend in self._probes:
            self._last[probe.backend] = LastProbe(probe.kind, result, now)

    def last(self, service: str, backend: Endpoint) -> LastProbe | None:
        """The last probe of a backend that is over."""
        return self._last.get((service, backend))

    def report(self, now: float) -> ProbeCounters:
        """The counters as they are now, without what only the sender sees. O(n)."""
        return ProbeCounters(
            sent=self._outcomes.total() - self._outcomes[Outcome.UNSENT],
            **{outcome.value: self._outcomes[outcome] for outcome in Outcome},
            withheld=self._needs.withheld(now),
            packets=self._packets,
            forwarded_packets=self._forwarded_since,
        )

    def _standing(self, probe: Probe, health: Health, now: float) -> Standing:
        age = self._freshness.age(*probe.backend, probe.kind, now)
        return standing(age, up_for=now - health.since, shunned=self._shunned(*probe.backend))


def _probe_of(service: Service, backend: Endpoint) -> Probe:
    check = service.health
    if check.check == "http":
        target = backend if check.port is None else Endpoint(backend.ip, check.port)
        return Probe((service.name, backend), ProbeKind.HTTP, target, check)
    return Probe((service.name, backend), ProbeKind.SYN, backend, check)
