"""All that the metrics are made of, at one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from l4lb.health.agents.runner import QuestionCounters
from l4lb.health.probing import ProbeCounters
from l4lb.model import Costs, Counters, Endpoint, Limits, Service, ServicePlan, Traffic


@dataclass(frozen=True, slots=True)
class Choice:
    """How a backend that gets new connections is chosen.

    Attributes:
        cost: by costs, of the cheapest of the service 1; None by a table.
        hot: whether it is chosen only where all are.
    """

    cost: float | None = None
    hot: bool = False


@dataclass(frozen=True, slots=True)
class BackendSnapshot:
    """One backend of one service.

    Attributes:
        up: whether its checks let it be used.
        choice: None if the scheduler gives it no new connections now.
    """

    address: Endpoint
    weight: int
    up: bool
    choice: Choice | None
    traffic: Traffic = field(default_factory=Traffic)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A gateway.

    Attributes:
        began: when the daemon did, seconds since 1970.
        running: whether the datapath runs; if not, counters are empty.
        services: with their backends.
        limits: that are in force.
        checks: health checks made, and the packets that they caused.
    """

    version: str
    datapath: str
    began: float
    running: bool
    services: Sequence[tuple[Service, Sequence[BackendSnapshot]]]
    counters: Counters
    limits: Limits
    probes: ProbeCounters
    agents: QuestionCounters
    checks: tuple[int, int] = (0, 0)
    warnings: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


def choices_of(plan: ServicePlan) -> dict[Endpoint, Choice]:
    """The backends of a service that get new connections."""
    selection = plan.selection
    if not isinstance(selection, Costs):
        return {plan.backends[index].address: Choice() for index in selection.chosen}
    least = min((cost for _, cost in selection.costs), default=1)
    return {
        plan.backends[index].address: Choice(cost / least, index in selection.hot)
        for index, cost in selection.costs
    }
