"""What the API tells of services, backends and connections: plain values ready for JSON. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from l4lb.agent.protocol import Refusal
from l4lb.agent.report import Figures
from l4lb.control.drains import Drain
from l4lb.health.agents.reports import Sight
from l4lb.health.agents.runner import QuestionCounters
from l4lb.health.probing import LastProbe, ProbeCounters
from l4lb.health.rise_fall import Health, HealthState
from l4lb.model import (
    Backend,
    ConnectionInfo,
    Counters,
    Decision,
    HealthCheck,
    Probes,
    Service,
    Times,
    Traffic,
)
from l4lb.netlink.state import KernelState
from l4lb.times import by_end, quantile

Json = dict[str, Any]

_QUANTILES: Final = (0.5, 0.9, 0.99)
_TRAFFIC: Final = tuple(each.name for each in dataclasses.fields(Traffic))

DRAIN: Final = "drain"
"""The state shown for a backend of weight 0, whatever its health, and for one that its agent keeps out of
the choice, unless its check fails."""

BY_AGENT: Final = "by its agent"
"""What the reason begins with, of one that its agent keeps out; what the agent says follows."""


@dataclasses.dataclass(frozen=True, slots=True)
class BackendFacts:
    """What is known of one backend of a service besides its config."""

    health: Health
    drain: Drain | None
    traffic: Traffic
    in_file: bool
    agent: Sight | None = None  # None: it has no agent
    kept_out: float | None = None  # since when its agent keeps new connections from it; None: it does not
    last_probe: LastProbe | None = None
    counted: bool = True  # False: no datapath runs that could tell the traffic


def backend_report(
    service: Service, backend: Backend, facts: BackendFacts, *, now: float, wall: datetime
) -> Json:
    """One backend. ``now`` is on the clock of the health's times, ``wall`` is the same moment."""
    state, since, reason = _state(facts)
    age = max(0.0, now - since)
    return {
        "service": service.name,
        "address": str(backend.address),
        "weight": backend.weight,
        "state": state,
        "reason": reason or f"since {wall - timedelta(seconds=age):%Y-%m-%d %H:%M:%S}",
        "since": round(age, 3),
        "counted": facts.counted,
        **_traffic_report(facts.traffic),
        "check": _check_report(facts.health, now),
        "agent": _agent_report(facts.agent),
        "probe": _probe_report(facts.last_probe, now),
        "source": "file" if facts.in_file else "runtime",
    }


def _traffic_report(traffic: Traffic) -> Json:
    # Not by asdict, which copies each bucket.
    report = {name: getattr(traffic, name) for name in _TRAFFIC}
    report["waiting"] = round(traffic.waiting, 6)
    report["handshakes"] = times_report(traffic.handshakes)
    report["responses"] = times_report(traffic.responses)
    return report


def times_report(times: Times) -> Json:
    """Times in seconds; those that were never taken are null. A bucket has the times below the end that is
    its name, and not below the end before."""
    shares = {f"p{round(100 * share)}": quantile(times, share) for share in _QUANTILES}
    report = {"average": times.average if times.count else None, **shares}
    return {
        "count": times.count,
        "total": round(times.total, 6),
        **{name: None if seconds is None else round(seconds, 6) for name, seconds in report.items()},
        "buckets": by_end(times),
    }


def _check_report(health: Health, now: float) -> Json | None:
    """The last check; ``latency`` in seconds, null if it did not pass. Null before the first one."""
    if health.last_check is None:
        return None
    return {"age": _rounded(max(0.0, now - health.last_check)), "latency": _rounded(health.latency, 6)}


def _probe_report(last: LastProbe | None, now: float) -> Json | None:
    """Times in seconds; ``age`` since the probe was over."""
    if last is None:
        return None
    return {
        "kind": last.kind.value,
        "outcome": last.result.outcome.value,
        "age": round(max(0.0, now - last.at), 3),
        "round_trip": last.result.round_trip,
        "reason": last.result.reason,
    }


def _state(facts: BackendFacts) -> tuple[str, float, str]:
    """State, since when, and why if there is anything to say."""
    health = facts.health
    if facts.drain:
        return DRAIN, facts.drain.since, health.against
    if facts.kept_out is not None and facts.agent is not None and health.usable:
        return DRAIN, facts.kept_out, f"{BY_AGENT}: {facts.agent.said}"
    reason = health.against if health.state is HealthState.UNKNOWN and not health.usable else health.reason
    return health.state.value, health.since, reason


def _agent_report(sight: Sight | None) -> Json | None:
    """What a backend's agent says; figures are null where it says nothing that counts."""
    if sight is None:
        return None
    figures = Figures() if sight.report is None else sight.report.figures
    return {
        "state": sight.state.value,
        "reason": "; ".join(filter(None, (sight.reason, sight.part))),
        "age": _rounded(sight.age),
        "rtt": _rounded(sight.rtt, 6),
        **{name: _rounded(value, 4) for name, value in dataclasses.asdict(figures).items()},
        "weight": None if sight.report is None else sight.report.weight,
    }


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def service_report(service: Service, backends: list[Json]) -> Json:
    """One service with the reports of its backends."""
    return {
        "name": service.name,
        "address": str(service.address),
        "protocol": service.protocol.label,
        "scheduler": service.scheduler,
        "nat": service.nat.value,
        "affinity": service.affinity,
        "affinity_timeout": service.affinity_timeout,
        "when_all_down": service.when_all_down.value,
        "when_backend_down": service.when_backend_down.value,
        "health": _health_check_report(service.health),
        "agent": dataclasses.asdict(service.agent) if service.agent else None,
        "backends": backends,
    }


def _health_check_report(check: HealthCheck) -> Json:
    statuses = [str(low) if low == high else f"{low}-{high}" for low, high in check.status]
    return {**dataclasses.asdict(check), "status": statuses}


def connection_report(connection: ConnectionInfo) -> Json:
    """One connection; ``idle`` and ``expires`` in seconds."""
    return {
        "service": connection.service,
        "protocol": connection.protocol.label,
        "client": str(connection.client),
        "vip": str(connection.vip),
        "source": str(connection.source),
        "backend": str(connection.backend),
        "state": connection.state.label,
        "idle": round(connection.idle, 3),
        "expires": round(connection.expires, 3),
    }


def decision_report(decision: Decision, now: float) -> Json:
    """One choice that was made; ``age`` in seconds. ``best`` is what the chosen backend asked,
    ``runner_up`` what the second best did; null for a choice that was not by costs."""
    offers = {"best": decision.best, "runner_up": decision.runner_up}
    return {
        "age": round(max(0.0, now - decision.at), 3),
        "service": decision.service,
        "client": str(decision.client),
        "backend": str(decision.backend),
        "rule": decision.rule.label,
        "compared": decision.compared,
        **{
            name: None if offer is None else {**dataclasses.asdict(offer), "backend": str(offer.backend)}
            for name, offer in offers.items()
        },
    }


def counters_report(counters: Counters) -> Json:
    """The counters of the whole datapath; of the drop reasons, those that occurred."""
    return {
        "connections": {"half_open": counters.half_open, "established": counters.established},
        "verdicts": {verdict.name.lower(): count for verdict, count in counters.verdicts.items()},
        "drops": {reason.label: count for reason, count in counters.drops.items() if count},
    }


def probes_report(counted: ProbeCounters, agents: QuestionCounters, limits: Probes) -> Json:
    """The probes of all backends and the questions to their agents, and what both may cost together.
    ``packets`` are those of both, and ``part`` is theirs of the packets forwarded."""
    packets = counted.packets + agents.packets
    return {
        **dataclasses.asdict(counted),
        "packets": packets,
        "part": packets / counted.forwarded_packets if counted.forwarded_packets else None,
        "agents": dataclasses.asdict(agents),
        "limits": dataclasses.asdict(limits),
    }


def agents_report(*refused: Mapping[Refusal, int]) -> Json:
    """What came that is no answer of an agent, by reason, those that occurred; by whoever has asked."""
    counts = {reason.value: sum(each.get(reason, 0) for each in refused) for reason in Refusal}
    return {"refused": {reason: count for reason, count in counts.items() if count}}


def vip_report(services: Sequence[Service], state: KernelState, ours: Collection[bytes]) -> list[Json]:
    """The VIPs and the interfaces that have them now; ``ours`` are those that l4lb added."""
    vips = {service.address.ip: service.address for service in services}
    names = {link.index: link.name for link in state.links}
    where = {address.ip: names.get(address.index) for address in state.addresses}
    return [
        {"address": vip.host, "interface": where.get(vip.ip), "ours": vip.ip in ours}
        for vip in vips.values()
    ]
