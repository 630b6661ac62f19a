"""Smooth weighted round robin: backends take turns, a heavy one's turns spread between the others'.

The order is that of nginx (``src/http/ngx_http_upstream_round_robin.c``): each turn every backend
gains its weight, the one that has most goes and pays the sum of all weights. Weights 5, 1, 1 give
a a b a c a a, never five in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l4lb.model import Key, Table
from l4lb.schedulers.scheduler import Candidate, Scheduler
from l4lb.schedulers.weights import slot_counts


@dataclass(slots=True)
class _Equals:
    """Backends of one weight. They take turns in the order given, because whoever has gone has
    paid and the others have not; so only the next of them needs looking at."""

    weight: int
    members: list[int]
    next: int = 0  # place in members
    credit: int = 0  # of the next member


def smooth_order(weights: Sequence[int]) -> list[int]:
    """One whole period of turns: positions in ``weights``, sum(weights) of them.

    On equal credit the one given first goes. Each turn looks at one backend of each distinct
    weight; as they add up to the period at most, those are fewer than sqrt(2 * period).
    """
    groups: dict[int, _Equals] = {}
    for position, weight in enumerate(weights):
        groups.setdefault(weight, _Equals(weight, [])).members.append(position)
    equals = list(groups.values())
    total = sum(weights)
    order = []
    for _ in range(total):
        for group in equals:
            group.credit += group.weight
        winner = max(equals, key=lambda group: (group.credit, -group.members[group.next]))
        order.append(winner.members[winner.next])
        winner.next += 1
        if winner.next == len(winner.members):
            winner.next = 0
            winner.credit -= total
    return order


def turn_table(candidates: Sequence[Candidate]) -> Table:
    """One period of turns, as short as the weights allow (see ``weights.slot_counts``)."""
    counts = slot_counts([candidate.weight for candidate in candidates])
    return Table(Key.TURN, tuple(candidates[position].index for position in smooth_order(counts)))


SCHEDULER = Scheduler("round_robin", "backends take turns, by weight", turn_table)
