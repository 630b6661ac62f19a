"""Maglev: a consistent hash of the connection, spread as evenly as slots allow.

D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
section 3.4. Each backend has its own order of preference over all slots, from two hashes of its
address. Backends take turns; at its turn each claims the free slot it likes best. When a backend
comes or goes, nearly all slots of the others stay where they were (section 5.3), so that a
connection whose entry was lost still finds its backend.

Against the source_hash scheduler: a few slots more move than must, and in return every backend
has its share to within a slot or so.

The paper leaves weights open ("altering the relative frequency of the backends' turns"). IPVS
(``ip_vs_mh.c``) gives a heavy backend its turns in a row, Katran (``MaglevHashV2.cpp``) lets
lighter ones sit rounds out; here turns are spread as in ``weights.turns``, which does not shift
the turns of those that stay when the heaviest weight changes, as a round measured by it would.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from l4lb.model import Key, Table
from l4lb.schedulers.hash import endpoint_bytes, murmur3
from l4lb.schedulers.scheduler import Candidate, Scheduler
from l4lb.schedulers.weights import turns

TABLE_SIZE: Final = 65537
"""The paper's default. It asks for 100 slots a backend at least, which is 655 backends here; with
more, shares are coarser. Filling it takes 0.02 to 0.05 s in CPython for 10 to 1000 backends."""

OFFSET_SEED: Final = 0x6F666673  # "offs"
SKIP_SEED: Final = 0x736B6970  # "skip"


def maglev_table(candidates: Sequence[Candidate], size: int = TABLE_SIZE) -> Table:
    """Populate a table of ``size`` slots, a prime.

    Which address a slot leads to depends on the addresses and weights alone, not on indices or
    the order of the config. n backends get their share of the slots to within
    1/2 + n/2 * share; a share of less than half a slot gets none.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.address)
    names = [endpoint_bytes(candidate.address) for candidate in ordered]
    preferred = [murmur3(name, OFFSET_SEED) % size for name in names]
    # size is prime, so any skip from 1 to size - 1 visits every slot
    skips = [murmur3(name, SKIP_SEED) % (size - 1) + 1 for name in names]
    slots = [-1] * size
    for position in islice(turns([candidate.weight for candidate in ordered]), size):
        slot, skip = preferred[position], skips[position]
        while slots[slot] >= 0:
            slot = (slot + skip) % size
        slots[slot] = ordered[position].index
        preferred[position] = slot
    return Table(Key.FLOW, tuple(slots))


SCHEDULER = Scheduler("maglev", "consistent hash of the connection, even and by weight", maglev_table)
