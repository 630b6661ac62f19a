"""Candidates for tests, and what a table gives each of them."""

from collections import Counter
from collections.abc import Sequence

from l4lb.model import Endpoint, Table
from l4lb.schedulers import Candidate


def with_weights(*weights: int) -> list[Candidate]:
    """Backends 10.2.0.0:80, 10.2.0.1:80, ... of these weights, in the order of the config."""
    return [
        Candidate(index, Endpoint((0x0A020000 + index).to_bytes(4, "big"), 80), weight)
        for index, weight in enumerate(weights)
    ]


def counts(table: Table, candidates: Sequence[Candidate]) -> list[int]:
    """How many slots each candidate has."""
    held = Counter(table.slots)
    return [held[candidate.index] for candidate in candidates]


def owners(table: Table, candidates: Sequence[Candidate]) -> list[Endpoint]:
    """The address each slot leads to."""
    address = {candidate.index: candidate.address for candidate in candidates}
    return [address[index] for index in table.slots]
