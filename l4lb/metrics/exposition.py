"""A snapshot as Prometheus's metric families. Pure; prometheus-client writes them down.

Names follow https://prometheus.io/docs/practices/naming: base units, ``_total`` for what only grows.
Counters begin at 0 with the datapath, not with the daemon: under tc and xdp they go on over its restarts.
While the datapath does not run, what it counts is left out: zeros would be taken for counters that began
anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from l4lb.metrics.snapshot import BackendSnapshot, Snapshot
from l4lb.model import DropReason, Service, Times, Verdict
from l4lb.times import BUCKETS, upper_bound

_BACKEND: Final = ("service", "backend")

_FIRST_OCTAVE: Final = 4
"""The first bound is 131 us and each is twice the one before: of the buckets in memory, four to an octave,
only those where octaves end, as each is a time series for each backend."""

_BOUNDS: Final = tuple(range(4 * _FIRST_OCTAVE - 1, BUCKETS - 1, 4))
_LE: Final = tuple(f"{upper_bound(bucket):.6g}" for bucket in _BOUNDS)


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """All of them; the ones with a label for each backend last."""
    yield from _gateway(snapshot)
    if snapshot.running:
        yield from _packets(snapshot)
        yield from _tables(snapshot)
    yield from _probes(snapshot)
    yield from _services(snapshot)
    yield from _backends(snapshot)


def _gateway(snapshot: Snapshot) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "l4lb_info", "The version of l4lb and the datapath that is in use.", labels=("version", "datapath")
    )
    info.add_metric((snapshot.version, snapshot.datapath), 1)
    yield info
    yield GaugeMetricFamily(
        "l4lb_start_time_seconds", "When the daemon started, in seconds since 1970.", snapshot.began
    )
    yield GaugeMetricFamily("l4lb_datapath_up", "Whether the datapath runs.", int(snapshot.running))
    yield GaugeMetricFamily("l4lb_warnings", "Lines that 'l4lb status' warns with.", snapshot.warnings)


def _packets(snapshot: Snapshot) -> Iterator[Metric]:
    verdicts = CounterMetricFamily(
        "l4lb_packets",
        "Packets looked at, by what became of them. tc and xdp do not count what they pass, and hold none.",
        labels=("verdict",),
    )
    for verdict in Verdict:
        verdicts.add_metric((verdict.name.lower(),), snapshot.counters.verdicts.get(verdict, 0))
    yield verdicts
    drops = CounterMetricFamily(
        "l4lb_dropped_packets",
        "Packets not forwarded, dropped or answered, by reason. rate_limited counts once more those whose "
        "answer was withheld, half_open_evicted connections that were pushed out.",
        labels=("reason",),
    )
    for reason in DropReason:  # also those at 0: to a rate the first value of a series is no increase
        drops.add_metric((reason.label,), snapshot.counters.drops.get(reason, 0))
    yield drops


def _tables(snapshot: Snapshot) -> Iterator[Metric]:
    counters, limits = snapshot.counters, snapshot.limits
    entries = GaugeMetricFamily(
        "l4lb_connections",
        "Connections that a table holds. Those that are over are remembered while there is room beside the "
        "established ones.",
        labels=("table",),
    )
    room = GaugeMetricFamily(
        "l4lb_connections_limit",
        "Connections that a table has room for. Under tc and xdp each version of IP has one of half_open, "
        "of this size, and l4lb_connections has both.",
        labels=("table",),
    )
    entries.add_metric(("established",), counters.established)
    entries.add_metric(("over",), counters.remembered)
    entries.add_metric(("half_open",), counters.half_open)
    room.add_metric(("established",), counters.room or limits.established)
    room.add_metric(("half_open",), limits.half_open)
    yield entries
    yield room


def _probes(snapshot: Snapshot) -> Iterator[Metric]:
    probes, agents = snapshot.probes, snapshot.agents
    outcomes = CounterMetricFamily("l4lb_probes", "Probes that are over, by outcome.", labels=("outcome",))
    for name in ("answered", "refused", "wrong", "lost", "unsent"):
        outcomes.add_metric((name,), getattr(probes, name))
    yield outcomes
    strays = CounterMetricFamily(
        "l4lb_probe_answers_ignored", "Answers to probes that did not count, by reason.", labels=("reason",)
    )
    strays.add_metric(("late",), probes.late)
    strays.add_metric(("forged",), probes.forged)
    yield strays
    questions = CounterMetricFamily(
        "l4lb_agent_questions", "Questions to agents that are over, by outcome.", labels=("outcome",)
    )
    questions.add_metric(("answered",), agents.answered)
    questions.add_metric(("unanswered",), agents.asked - agents.answered)
    yield questions
    refused = CounterMetricFamily(
        "l4lb_agent_packets_refused",
        "Packets that came to the gateway as an agent's answer and were none, by reason.",
        labels=("reason",),
    )
    for name, count in sorted(snapshot.refused.items()):
        refused.add_metric((name,), count)
    yield refused
    kinds = ("kind",)
    withheld = CounterMetricFamily(
        "l4lb_probes_withheld", "Probes that were wanted and that the budget did not allow.", labels=kinds
    )
    withheld.add_metric(("probe",), probes.withheld)
    withheld.add_metric(("agent",), agents.withheld)
    yield withheld
    packets = CounterMetricFamily(
        "l4lb_probe_packets", "Packets that asking backends has caused, both ways.", labels=kinds
    )
    made, caused = snapshot.checks
    packets.add_metric(("probe",), probes.packets)
    packets.add_metric(("agent",), agents.packets)
    packets.add_metric(("check",), caused)
    yield packets
    yield CounterMetricFamily("l4lb_health_checks", "Health checks made.", made)


def _services(snapshot: Snapshot) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "l4lb_service_info",
        "How a service is configured.",
        labels=("service", "address", "protocol", "scheduler", "nat", "affinity"),
    )
    usable = GaugeMetricFamily(
        "l4lb_service_backends_usable", "Backends that get new connections now.", labels=("service",)
    )
    for service, backends in snapshot.services:
        words = (service.protocol.label, service.scheduler, service.nat.value, service.affinity)
        info.add_metric((service.name, str(service.address), *words), 1)
        usable.add_metric((service.name,), sum(backend.choice is not None for backend in backends))
    yield info
    yield usable


def _backends(snapshot: Snapshot) -> Iterator[Metric]:
    rows = [
        (service, backend, (service.name, str(backend.address)))
        for service, backends in snapshot.services
        for backend in backends
    ]
    yield from _states(rows)
    if snapshot.running:
        yield from _counts(rows)
        yield from _histograms(rows)


_Rows = list[tuple[Service, BackendSnapshot, tuple[str, str]]]


def _states(rows: _Rows) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "l4lb_backend_up", "Whether the backend's checks let it be used.", labels=_BACKEND
    )
    weight = GaugeMetricFamily("l4lb_backend_weight", "Its weight; 0 is drained.", labels=_BACKEND)
    cost = GaugeMetricFamily(
        "l4lb_backend_cost",
        "What the scheduler has it cost, over the cheapest of its service; of schedulers by costs.",
        labels=_BACKEND,
    )
    hot = GaugeMetricFamily(
        "l4lb_backend_hot", "Whether it gets connections only where all are hot.", labels=_BACKEND
    )
    for _, backend, labels in rows:
        up.add_metric(labels, int(backend.up))
        weight.add_metric(labels, backend.weight)
        if backend.choice is not None and backend.choice.cost is not None:
            cost.add_metric(labels, backend.choice.cost)
            hot.add_metric(labels, int(backend.choice.hot))
    yield from (up, weight, cost, hot)


def _counts(rows: _Rows) -> Iterator[Metric]:
    state = (*_BACKEND, "state")
    connections = GaugeMetricFamily("l4lb_backend_connections", "Its connections, by state.", labels=state)
    for _, backend, labels in rows:
        connections.add_metric((*labels, "established"), backend.traffic.established)
        connections.add_metric((*labels, "half_open"), backend.traffic.half_open)
    yield connections
    outstanding = GaugeMetricFamily(
        "l4lb_backend_outstanding_requests",
        "Connections with data of the client that it has not begun to answer.",
        labels=_BACKEND,
    )
    waited = GaugeMetricFamily(
        "l4lb_backend_outstanding_wait_seconds",
        "How long these have waited by now, together.",
        labels=_BACKEND,
    )
    for _, backend, labels in rows:
        outstanding.add_metric(labels, backend.traffic.outstanding)
        waited.add_metric(labels, backend.traffic.waiting)
    yield from (outstanding, waited)
    for name, about, field in (
        ("connections_opened", "Connections that the scheduler or affinity gave it.", "connections_total"),
        (
            "connections_confirmed",
            "Of these, those that were established, or of UDP answered.",
            "confirmed",
        ),
        ("resets", "Connections that it has reset.", "resets"),
        ("syn_retransmissions", "SYNs sent again for want of its answer.", "retransmissions"),
        ("unanswered_connections", "Connections that ended before it said anything.", "unanswered"),
    ):
        family = CounterMetricFamily(f"l4lb_backend_{name}", about, labels=_BACKEND)
        for _, backend, labels in rows:
            family.add_metric(labels, getattr(backend.traffic, field))
        yield family
    for name, about in (("packets", "Packets forwarded"), ("bytes", "Bytes of IP forwarded")):
        family = CounterMetricFamily(
            f"l4lb_backend_{name}",
            f"{about}, in (to it) and out (to clients).",
            labels=(*_BACKEND, "direction"),
        )
        for _, backend, labels in rows:
            for direction in ("in", "out"):
                family.add_metric((*labels, direction), getattr(backend.traffic, f"{name}_{direction}"))
        yield family


def _histograms(rows: _Rows) -> Iterator[Metric]:
    for name, about, field in (
        ("handshake", "From a SYN that was forwarded to the SYN/ACK.", "handshakes"),
        ("response", "From the first packet of a request to the first of its answer.", "responses"),
    ):
        family = HistogramMetricFamily(f"l4lb_backend_{name}_seconds", about, labels=_BACKEND)
        for _, backend, labels in rows:
            times: Times = getattr(backend.traffic, field)
            family.add_metric(labels, list(_cumulative(times)), times.total)
        yield family


def _cumulative(times: Times) -> Iterable[tuple[str, float]]:
    """(bound, how many were not longer), as a histogram has them. The programs count on while they are
    read, so there may be more in the buckets than in the count."""
    counts = times.buckets or (0,) * BUCKETS
    done = seen = 0
    for bound, le in zip(_BOUNDS, _LE, strict=True):
        seen += sum(counts[done : bound + 1])
        done = bound + 1
        yield le, seen
    yield "+Inf", max(times.count, sum(counts))
