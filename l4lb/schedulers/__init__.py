"""One policy a file: weights in, a table or costs out (see l4lb.model). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from l4lb.model import Key, Selection, Table
from l4lb.schedulers import adaptive, least_connection, maglev, random, round_robin, source_hash
from l4lb.schedulers.scheduler import Candidate, Scheduler

__all__ = ["NOBODY", "SCHEDULERS", "Candidate", "Scheduler", "compile_selection"]

SCHEDULERS: Final[Mapping[str, Scheduler]] = {
    scheduler.name: scheduler
    for scheduler in (
        round_robin.SCHEDULER,
        least_connection.SCHEDULER,
        source_hash.SCHEDULER,
        maglev.SCHEDULER,
        random.SCHEDULER,
        adaptive.SCHEDULER,
    )
}
"""Every scheduler by the name used in the config."""


NOBODY: Final = Table(Key.TURN, ())
"""The selection of a service without a backend that takes connections."""


def compile_selection(scheduler: str, candidates: Sequence[Candidate]) -> Selection:
    """Turn candidates into what a datapath runs. Those with weight 0 are left out.

    Returns:
        The scheduler's selection, or an empty table if no candidate has a weight.

    Raises:
        ValueError: there is no scheduler of this name.
    """
    policy = SCHEDULERS.get(scheduler)
    if policy is None:
        raise ValueError(f"'{scheduler}' is not a scheduler: use one of {', '.join(SCHEDULERS)}")
    weighted = [candidate for candidate in candidates if candidate.weight > 0]
    if not weighted:
        return NOBODY
    return policy.compile(weighted)
