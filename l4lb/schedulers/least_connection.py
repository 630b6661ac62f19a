"""Least connection: the backend with the fewest connections for its weight.

The least (connections + 1) / weight wins: the connection about to be placed counts, so that among
idle backends the heaviest is first. This is the rule of IPVS's ``ip_vs_sed.c``; its
``ip_vs_wlc.c`` leaves the new connection out, and sends it to whichever idle server is listed
first, however light.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from l4lb.model import Costs
from l4lb.schedulers.scheduler import Candidate, Scheduler

UNIT: Final = 32_768
"""A cost of one: what the heaviest candidate costs. With weights up to 65535 no other exceeds MAX_COST."""


def connection_costs(candidates: Sequence[Candidate]) -> Costs:
    """Costs in inverse proportion to the weights, all candidates compared."""
    heaviest = max(candidate.weight for candidate in candidates)
    return Costs(
        tuple((candidate.index, round(UNIT * heaviest / candidate.weight)) for candidate in candidates)
    )


SCHEDULER = Scheduler("least_connection", "the fewest connections, by weight", connection_costs)
