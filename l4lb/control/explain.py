"""Which backend a client would get now, and why. Pure: what is known is given.

The answer is what a datapath would do with the client's next connection, by the same rules and the same
numbers; it takes no turn and draws nothing, so where a turn or chance decides, it says so and shows what
they decide among.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from l4lb.datapath.base import ConnectionFilter
from l4lb.director.connection import tuple_key
from l4lb.model import (
    Costs,
    Decision,
    Endpoint,
    Key,
    Load,
    Nat,
    Protocol,
    Recalled,
    Service,
    ServicePlan,
    Table,
    WhenAllDown,
)
from l4lb.schedulers.hash import flow_hash, source_hash
from l4lb.schedulers.price import price

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to explain with.

    Attributes:
        service: as configured.
        plan: as the datapath has it.
        loads: of its backends now.
        signals: by backend, what else the scheduler goes by, for people: name -> value and age.
        down: by backend, why it should get no new connections: its check fails,
        unwilling: or its agent does not want them.
        recalled: of the client, by the datapath.
        most_compared: backends, for one connection by costs; None: all.
    """

    service: Service
    plan: ServicePlan
    loads: Mapping[Endpoint, Load]
    signals: Mapping[Endpoint, Mapping[str, str]]
    down: Mapping[Endpoint, str]
    unwilling: Mapping[Endpoint, str]
    recalled: Recalled = field(default_factory=Recalled)
    most_compared: int | None = None


def explain(known: Known, client: Endpoint) -> Json:
    """The answer as the API gives it: backend (null where it is not certain), rule, candidates; what the
    scheduler would do, if something goes before it, is ``otherwise``.

    Raises:
        ValueError: the client has another version of IP than the service.
    """
    plan = known.plan
    if client.version != plan.address.version:
        raise ValueError(
            f"{client} is IPv{client.version}, service '{plan.name}' is IPv{plan.address.version}"
        )
    selection = plan.selection
    if isinstance(selection, Table):
        backend, rule, shares = _by_table(plan, selection, client)
        candidates = [_shared(known, address, share) for address, share in shares.items()]
    else:
        backend, rule, candidates = _by_costs(known, selection)
    chosen: Json = {"backend": None if backend is None else str(backend), "rule": rule}
    before = _before(known.recalled)
    return {
        "service": plan.name,
        "client": str(client),
        "scheduler": known.service.scheduler,
        **(before or chosen),
        "otherwise": chosen if before else None,
        "but": _but(known),
        "candidates": candidates,
        "away": {str(address): why for address, why in _away(known).items()},
    }


def concerns(which: ConnectionFilter, decision: Decision) -> bool:
    """Whether a choice is among those that are asked for."""
    return (
        which.service in (None, decision.service)
        and which.backend in (None, decision.backend)
        and which.client in (None, decision.client.ip)
    )


def _before(recalled: Recalled) -> Json | None:
    """What goes before the scheduler."""
    if recalled.connection is not None:
        rule = "a connection from this port is with it, and is not over"
        return {"backend": str(recalled.connection), "rule": rule}
    if recalled.last is not None:
        rule = f"the client's last connection was with it, which counts for {recalled.left:.0f} s more"
        return {"backend": str(recalled.last), "rule": rule}
    return None


def _but(known: Known) -> str | None:
    """What else there is to know about the choice."""
    parts, chosen = [], _chosen(known.plan)
    if known.plan.affinity_timeout and known.recalled.last is None:
        seconds = known.plan.affinity_timeout
        parts.append(
            "the client is not remembered with a backend that takes new connections; "
            f"it stays for {seconds:g} s with the one it gets"
        )
    if chosen and chosen <= known.down.keys() and known.service.when_all_down is WhenAllDown.USE_ALL:
        parts.append("all are down, and used as if they were up (when_all_down)")
    elif chosen and chosen <= known.unwilling.keys():
        parts.append("no other takes connections, so those go on whose agents say that they are down")
    return "; ".join(parts) or None


def _chosen(plan: ServicePlan) -> set[Endpoint]:
    return {plan.backends[index].address for index in plan.selection.chosen}


def _by_table(
    plan: ServicePlan, table: Table, client: Endpoint
) -> tuple[Endpoint | None, str, dict[Endpoint, float]]:
    size = len(table.slots)
    slots = Counter(plan.backends[index].address for index in table.slots)
    shares = {address: count / size for address, count in slots.items()}
    if not size:
        return None, "no backend takes new connections: they are refused", shares
    if table.key in (Key.SOURCE, Key.FLOW):
        source = table.key is Key.SOURCE
        number = source_hash(client.ip) if source else flow_hash(tuple_key(client, plan.address))
        slot = number % size
        what = "the client's address" if source else "the connection's addresses and ports"
        address = plan.backends[table.slots[slot]].address
        return address, f"the hash of {what}, {number:#010x}, gives slot {slot} of {size}", shares
    if len(shares) == 1:
        return next(iter(shares)), "it is the only one that takes new connections", shares
    how = "backends take turns" if table.key is Key.TURN else "a backend is drawn at random"
    return None, f"{how}, in proportion to their weights", shares


def _shared(known: Known, address: Endpoint, share: float) -> Json:
    return {**_report(known, address), "share": round(share, 4)}


def _by_costs(known: Known, selection: Costs) -> tuple[Endpoint | None, str, list[Json]]:
    rows = []
    for index, cost in selection.costs:
        address = known.plan.backends[index].address
        load = known.loads.get(address, Load())
        in_flight, idle = _counted(known.plan, load)
        asked = price(selection, index, cost, in_flight=in_flight, idle=idle)
        rows.append((asked, address, cost, in_flight, idle))
    rows.sort(key=lambda row: row[0])
    candidates = [
        {
            **_report(known, address),
            "cost": cost,
            "in_flight": in_flight,
            "idle": idle,
            "price": asked[1],
            "hot": asked[0],
        }
        for asked, address, cost, in_flight, idle in rows
    ]
    if not rows:
        return None, "no backend takes new connections: they are refused", candidates
    formula = "price = cost x (in flight + 1)"
    if selection.idle:
        formula += f" + cost x {selection.idle / 256:.2g} for each idle connection"
    if 0 < selection.candidates < len(rows):
        return (
            None,
            f"of {selection.candidates} drawn at random from {len(rows)} the least {formula}",
            candidates,
        )
    if known.most_compared is not None and len(rows) > known.most_compared:
        rule = f"of {known.most_compared} in a row among {len(rows)}, from one drawn at random on"
        return None, f"{rule}, the least {formula}", candidates
    best = [row for row in rows if row[0] == rows[0][0]]
    if len(best) > 1:
        return None, f"{len(best)} have the least {formula}, and take turns", candidates
    heat = ", as all are hot" if rows[0][0][0] else ""
    return rows[0][1], f"the least {formula}{heat}", candidates


def _counted(plan: ServicePlan, load: Load) -> tuple[int, int]:
    """In flight and idle, as the datapaths count them."""
    everything = load.half_open + load.established
    in_flight = load.outstanding + (load.half_open if plan.protocol is Protocol.TCP else 0)
    return in_flight, max(0, everything - in_flight)


def _report(known: Known, address: Endpoint) -> Json:
    # The config may be ahead of the datapath by a moment.
    weights = {each.address: each.weight for each in known.service.backends}
    return {
        "address": str(address),
        "weight": weights.get(address, 0),
        "signals": dict(known.signals.get(address, {})),
    }


def _away(known: Known) -> dict[Endpoint, str]:
    """Why backends take no new connections."""
    service, taken = known.service, _chosen(known.plan)
    sources = {each.address: each.snat for each in known.plan.backends}
    reasons = {}
    for backend in service.backends:
        if backend.address in taken:
            continue
        if backend.weight == 0:
            reasons[backend.address] = "drained: weight 0"
        elif backend.address in known.down:
            reasons[backend.address] = known.down[backend.address]
        elif backend.address in known.unwilling:
            reasons[backend.address] = known.unwilling[backend.address]
        elif service.nat is Nat.FULL and sources.get(backend.address) is None:
            reasons[backend.address] = "no route to it, so no address of the gateway for full NAT"
        else:
            reasons[backend.address] = "left out by the scheduler"
    return reasons
