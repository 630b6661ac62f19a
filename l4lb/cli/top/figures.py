"""What ``l4lb top`` shows, from one or two looks at the daemon. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l4lb.cli.backend import note
from l4lb.cli.output import duration, quantity
from l4lb.cli.rates import Rates, Target, rates, target
from l4lb.times import added, quantile

_REASONS = 2  # for which packets are dropped, that are named


@dataclass(frozen=True, slots=True)
class Look:
    """The daemon's overview and when it was asked for, on the clock of the caller, in seconds."""

    at: float
    status: Mapping[str, Any]
    services: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A backend, or a service with the totals of its backends. What was not measured is None."""

    target: Target
    state: str  # of a service: how many of its backends are up
    waiting: int
    active: int
    weight: int | None = None  # None: a service
    since: float | None = None  # seconds in this state
    share: float | None = None  # of the service's new connections, 0 to 1
    connections: float | None = None  # a second
    answers: float | None = None  # a second
    median: float | None = None  # of the answers' times in seconds
    p99: float | None = None
    bits_in: float | None = None  # a second
    bits_out: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A service and its backends as the config has them."""

    title: str
    total: Row
    backends: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is shown: of the whole gateway in few words each, the most important first."""

    facts: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()


def figures(host: str, now: Look, before: Look | None = None) -> Figures:
    """Of the last look; rates are those since ``before``, on a host of this name."""
    grown: dict[Target, Rates] = {}
    if before is not None and not all(look.status["datapath"]["running"] for look in (before, now)):
        before = None  # it is being restarted: nothing was counted
    if before is not None:
        grown = rates(_backends(before), _backends(now), now.at - before.at)
    return Figures(
        tuple(_facts(host, now, before, grown)),
        tuple(now.status["warnings"]),
        tuple(_group(service, grown) for service in now.services),
    )


def _backends(look: Look) -> list[Mapping[str, Any]]:
    return [backend for service in look.services for backend in service["backends"]]


def _group(service: Mapping[str, Any], grown: Mapping[Target, Rates]) -> Group:
    backends, name = service["backends"], service["name"]
    found = [grown[target(backend)] for backend in backends if target(backend) in grown]
    total = _total(found) if found else None
    up = sum(backend["state"] == "up" for backend in backends)
    return Group(
        f"{name} {service['address']}/{service['protocol']}",
        Row(
            (name, service["address"]),
            f"{up}/{len(backends)} up",
            sum(backend["outstanding"] for backend in backends),
            sum(backend["established"] for backend in backends),
            **_measured(total),
        ),
        tuple(_row(backend, grown.get(target(backend)), total) for backend in backends),
    )


def _total(found: Sequence[Rates]) -> Rates:
    return Rates(
        sum(each.connections for each in found),
        sum(each.bits_in for each in found),
        sum(each.bits_out for each in found),
        sum(each.answers for each in found),
        added([each.responses for each in found]),
    )


def _row(backend: Mapping[str, Any], rate: Rates | None, total: Rates | None) -> Row:
    shared = rate is not None and total is not None and total.connections
    return Row(
        target(backend),
        backend["state"],
        backend["outstanding"],
        backend["established"],
        backend["weight"],
        backend["since"],
        rate.connections / total.connections if rate and total and shared else None,
        note=note(backend),
        **_measured(rate),
    )


def _measured(rate: Rates | None) -> dict[str, Any]:
    if rate is None:
        return {}
    return {
        "connections": rate.connections,
        "answers": rate.answers,
        "median": quantile(rate.responses, 0.5),
        "p99": quantile(rate.responses, 0.99),
        "bits_in": rate.bits_in,
        "bits_out": rate.bits_out,
    }


def _facts(host: str, now: Look, before: Look | None, grown: Mapping[Target, Rates]) -> Iterator[str]:
    status, connections = now.status, now.status["connections"]
    yield f"l4lb on {host}, up for {duration(status['uptime'])}"
    yield status["datapath"]["name"]
    if before is not None:
        yield f"{_per_second(now, before, 'verdicts', ('forward', 'reply'))} packets/s"
    if grown:
        total = _total(list(grown.values()))
        yield f"{quantity(total.bits_in + total.bits_out)} bit/s"
    if before is not None:
        yield _drops(now, before)
    yield f"{connections['established']} established"
    yield f"{connections['half_open']} half-open"
    yield _probes(status["probes"])


def _per_second(now: Look, before: Look, kind: str, names: Sequence[str]) -> str:
    """What some counters have grown together; ``-`` if they began anew."""
    grown = [now.status[kind].get(name, 0) - before.status[kind].get(name, 0) for name in names]
    return quantity(sum(grown) / (now.at - before.at)) if min(grown, default=0) >= 0 else "-"


def _drops(now: Look, before: Look) -> str:
    """``12 drops/s (no backend 10, no route 2)``: the most frequent reasons of late."""
    drops, old = now.status["drops"], before.status["drops"]
    text = f"{_per_second(now, before, 'drops', list(drops))} drops/s"
    grown = {reason: drops[reason] - old.get(reason, 0) for reason in drops}
    reasons = sorted((reason for reason in grown if grown[reason] > 0), key=grown.__getitem__, reverse=True)
    named = ", ".join(
        f"{reason.replace('_', ' ')} {_per_second(now, before, 'drops', [reason])}"
        for reason in reasons[:_REASONS]
    )
    return f"{text} ({named})" if named else text


def _probes(probes: Mapping[str, Any]) -> str:
    """What part of the packets they are."""
    if not probes["limits"]["enabled"]:
        return "probes off"
    return "probes -" if probes["part"] is None else f"probes {probes['part']:.3%}"
