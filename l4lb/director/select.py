"""Step 3, select: which backend takes a new connection.

Runs the table or the costs that a scheduler compiled (l4lb.schedulers), the same way the eBPF
datapaths do. Affinity comes first: a client that is remembered is not scheduled.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, cast

from l4lb.director.affinity import Affinity
from l4lb.director.connection import Path
from l4lb.director.parse import Packet
from l4lb.model import (
    Costs,
    Decision,
    Endpoint,
    Key,
    Nat,
    Offer,
    Rule,
    ServicePlan,
    Table,
)
from l4lb.schedulers.hash import flow_hash, source_hash
from l4lb.schedulers.price import price

_TURN: Final = Key.TURN
_SOURCE: Final = Key.SOURCE
_FLOW: Final = Key.FLOW


class ServiceState:
    """A service as the director runs it: its plan, its paths, and where its turn stands."""

    __slots__ = ("affinity", "choices", "keep_at", "paths", "plan", "turn")

    def __init__(self, plan: ServicePlan) -> None:
        self.plan = plan
        self.paths: dict[Endpoint, Path] = {}  # of all backends
        self.choices: tuple[Path, ...] = ()  # by index, as the selection counts them
        self.affinity: Affinity | None = None
        self.turn = 0
        self.keep_at = 0.0  # when a decision is to be kept again

    @property
    def finds_again(self) -> bool:
        """True if a packet from the middle of a connection shows which backend it is with: nothing
        else, no client's affinity and no source port of full NAT, would have to be remembered."""
        return self.plan.selection.consistent and self.affinity is None and self.plan.nat is not Nat.FULL


def select(
    service: ServiceState, packet: Packet, now: float, random: Random
) -> tuple[Path | None, Decision | None]:
    """The path for a new connection that begins with ``packet``; None if no backend can take it. With it
    the decision, where it is time to keep one of the service."""
    remembered = None if service.affinity is None else service.affinity.find(packet.source, now)
    path, candidates = remembered, cast(_Candidates, ())
    selection = service.plan.selection
    if path is None:
        if isinstance(selection, Table):
            path = _from_table(service, selection, packet.source, packet.key, random)
        else:
            candidates = _candidates(service, selection, random)
            path = _least_cost(service, selection, candidates)
    if path is None or now < service.keep_at:
        return path, None
    if remembered is not None:
        rule = Rule.AFFINITY
    else:
        rule = Rule(selection.key) if isinstance(selection, Table) else Rule.COSTS
    return path, _decision(service, packet, now, path, rule, candidates)


def _decision(
    service: ServiceState,
    packet: Packet,
    now: float,
    path: Path,
    rule: Rule,
    candidates: _Candidates,
) -> Decision:
    client = Endpoint(packet.source, packet.sport)
    selection = service.plan.selection
    offers: list[Offer] = []
    if isinstance(selection, Costs):
        for index, cost in candidates:
            other = service.choices[index]
            in_flight, idle = other.in_flight, other.load - other.in_flight
            hot, asked = price(selection, index, cost, in_flight=in_flight, idle=idle)
            offers.append(Offer(other.address, hot, asked, cost, in_flight, idle))
    offers.sort(key=lambda offer: (offer.backend != path.address, offer.hot, offer.price))
    best, runner_up = (*offers[:2], None, None)[:2]
    return Decision(now, service.plan.name, client, path.address, rule, len(candidates), best, runner_up)


def select_again(service: ServiceState, client: bytes, original: bytes) -> Path | None:
    """The path that a consistent selection gives a connection, whoever's packet is at hand; None if
    the service cannot tell."""
    selection = service.plan.selection
    if not service.finds_again or not isinstance(selection, Table):
        return None
    return _from_table(service, selection, client, original, None)


def _from_table(
    service: ServiceState,
    table: Table,
    client: bytes,
    original: bytes,
    random: Random | None,
) -> Path | None:
    slots = table.slots
    if not slots:
        return None
    key = table.key
    if key is _FLOW:
        slot = flow_hash(original) % len(slots)
    elif key is _SOURCE:
        slot = source_hash(client) % len(slots)
    elif key is _TURN:
        slot = service.turn % len(slots)
        service.turn += 1
    else:
        assert random is not None
        slot = random.randrange(len(slots))
    return service.choices[slots[slot]]


_Candidates = Sequence[tuple[int, int]]
"""Of ``Costs.costs``, in the order in which they are looked at."""


def _candidates(service: ServiceState, selection: Costs, random: Random) -> _Candidates:
    costs = selection.costs
    if not costs:
        return ()
    if 0 < selection.candidates < len(costs):
        return random.sample(costs, selection.candidates)
    return costs


def _least_cost(service: ServiceState, selection: Costs, candidates: _Candidates) -> Path | None:
    """Of equals the first one met if they were drawn; else they take turns among themselves, so that the
    turns of one that is dear do not go to its neighbour."""
    equals: list[Path] = []
    least = (False, 0)
    for index, cost in candidates:
        path = service.choices[index]
        in_flight = path.in_flight
        asked = price(selection, index, cost, in_flight=in_flight, idle=path.load - in_flight)
        if not equals or asked < least:
            equals, least = [path], asked
        elif asked == least:
            equals.append(path)
    if not equals:
        return None
    if len(candidates) < len(selection.costs):
        return equals[0]
    service.turn += 1
    return equals[(service.turn - 1) % len(equals)]
