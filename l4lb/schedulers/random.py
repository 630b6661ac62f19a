"""Weighted random: a die is thrown for each connection.

Unlike turns it keeps no rhythm that periodic clients, or several gateways in front of the same
backends, could fall in step with.
"""

from __future__ import annotations

from collections.abc import Sequence

from l4lb.model import Key, Table
from l4lb.schedulers.scheduler import Candidate, Scheduler
from l4lb.schedulers.weights import slot_counts


def random_table(candidates: Sequence[Candidate]) -> Table:
    """Each candidate in as many slots as its weight says (see ``weights.slot_counts``)."""
    counts = slot_counts([candidate.weight for candidate in candidates])
    return Table(
        Key.RANDOM,
        tuple(
            candidate.index
            for candidate, count in zip(candidates, counts, strict=True)
            for _ in range(count)
        ),
    )


SCHEDULER = Scheduler("random", "a random backend, by weight", random_table)
