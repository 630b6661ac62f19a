"""Adaptive: the lowest expected latency, learnt from the traffic itself.

Prequal's rule (B. Wydrowski et al., "Load is not what you should balance: introducing Prequal",
NSDI 2024) on measurements that cost nothing. A backend that is over its limit of CPU or memory, or
lets connections fail, is hot and gets one only if all candidates are hot. Among the cold the lowest
expected latency wins: the price of how slow the backend is (``estimate``), at present for the first
request of a connection and in the long run for later ones (``habits``), times what it has in flight
with the new connection, over its weight. Where nothing tells the backends apart all
have the same cost, and the fewest in flight wins, but for what chance has taken from one of them
(``evenness``).

The control plane keeps a ``Pool`` for each service. At each look, twenty a second or so, it calls
``observe`` with what the datapath has counted of every backend that may take connections, then
``costs``, and gives the result to the datapath, which multiplies by its own counters, exact at the
moment, when a connection comes::

    pool = observe(pool, {address: Measured(...), ...}, now)
    selection = costs(candidates, pool, now)

``now`` is in seconds, by any clock. A backend that a look leaves out, because it is down or drained,
is new when it comes back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from typing import Final

from l4lb.model import MAX_COST, Costs, Endpoint
from l4lb.schedulers import estimate, evenness, habits
from l4lb.schedulers.estimate import Estimate, Usual
from l4lb.schedulers.habits import Habits
from l4lb.schedulers.least_connection import UNIT
from l4lb.schedulers.measured import Measured
from l4lb.schedulers.scheduler import Candidate, Scheduler

ALIKE: Final = 1.3
"""A backend whose price is below costs the same as one that is certainly as usual. With 1.0 nobody would
be served better or worse, but all would differ a little at every look. So who has the fewest in flight is
chosen, and a datapath is told when there is something to tell."""

DEARER: Final = 2.0
"""A backend that is not this many times as dear as the least dear one, on average, costs a connection that
is kept the same. It cannot be moved any more, so chance counts for less than with those of one request."""

COOLING: Final = 1.0
"""Seconds after its last failure until a failing backend is tried again. One that refuses is never
busy: while it is merely dear it gets connections whenever the others are."""

SLOW_START: Final = 3.0
"""Seconds in which the share of a new or recovered backend grows to what it is worth. Its caches are
cold, and having nothing in flight it would get all connections of the first moment."""

FIRST: Final = 0.1
"""Part of its share that a new backend begins with."""

COUNTED: Final = 1.0
"""Seconds for which its new connections must have been counted until a backend has a share of them."""

QUIET: Final = 5.0
"""Seconds in which nothing was asked of anybody after which shares are forgotten."""

ORDINARY: Final = 1.2
"""Dispersion up to which a look is believed in full: bursts on some of the backends raise it to 1.2
though nothing about the requests has changed. Beyond, doubt grows with its square, as what lies
behind it, few requests that are far longer than the others, lasts for many looks."""

SHUNNED: Final = 2.0
"""A backend of this price gets some, but few: half of its share where others have as much in flight."""

MOST_DOUBT: Final = 64.0
"""However scattered the answers are, in a minute a backend that is slow is found out."""

SHORTEST: Final = 1e-3
"""Seconds: no usual response time is taken for shorter. Below it a server that was asked a moment ago is
several times as fast as one whose caches are cold, and who waits for tens of microseconds does not mind."""

COMPARED: Final = 64
"""Up to so many backends all are compared for a connection, which takes a datapath long with more."""

DRAWN: Final = 8
"""Of more than that, so many are drawn at random and compared."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of the backends of one service."""

    backends: Mapping[Endpoint, Estimate] = field(default_factory=dict)
    hot: frozenset[Endpoint] = frozenset()
    usual: Usual | None = None
    habits: Habits = field(default_factory=Habits)
    lasting: float = 1.0  # the least of the backends


def observe(pool: Pool, seen: Mapping[Endpoint, Measured], now: float) -> Pool:
    """Learn from one look at all backends that may take connections."""
    backends = {
        address: _counted(
            estimate.observe(pool.backends.get(address) or _begun(measured, now), measured, pool.usual, now)
        )
        for address, measured in seen.items()
    }
    return Pool(
        backends,
        frozenset(address for address, measured in seen.items() if measured.hot),
        _usual(backends.values()) or pool.usual,
        habits.observe(pool.habits, seen.values(), now),
        min((it.lasting for it in backends.values()), default=1.0),
    )


def costs(candidates: Sequence[Candidate], pool: Pool, now: float) -> Costs:
    """What a datapath chooses by until the next look. At least one candidate, all of positive weight;
    one that the pool does not know is new."""
    hot = frozenset(it.index for it in candidates if it.address in pool.hot or fails(pool, it.address, now))
    all_hot = len(hot) == len(candidates)  # then by what is in flight alone
    heaviest = max(it.weight for it in candidates)
    had = shares(candidates, pool, now)
    priced = []
    for it in candidates:
        times = 1.0 if all_hot else _times(pool, it.address, now) * _evened(pool, had.get(it.address, 1.0))
        priced.append((it.index, min(MAX_COST, round(UNIT * times * heaviest / it.weight))))
    return Costs(
        tuple(priced),
        candidates=DRAWN if len(candidates) > COMPARED else 0,
        idle=pool.habits.idle,
        hot=frozenset() if all_hot else hot,
    )


def shares(candidates: Sequence[Candidate], pool: Pool, now: float) -> dict[Endpoint, float]:
    """What each has had of the new connections of late, in parts of what is usual for its weight. Those
    that are new have none yet, and nobody has where there were fewer connections than backends, or nothing
    was asked of late."""
    if all(now - known.asked >= QUIET for known in pool.backends.values()):
        return {}
    had, opened = {}, 0.0
    for it in candidates:
        known = pool.backends.get(it.address)
        if known and known.looked - known.counted >= COUNTED:
            opened += known.opened
            # As if it had been counted for ever.
            part = 1 - exp((known.counted - known.looked) / estimate.AVERAGE)
            had[it.address] = known.opened / it.weight / part
    return evenness.shares(had) if opened >= len(had) else {}


def shuns(pool: Pool, address: Endpoint, now: float) -> bool:
    """True if a backend gets few new connections, or none, because of what is believed of it: then traffic
    alone may not show soon that it is better."""
    known = pool.backends.get(address)
    return (
        address in pool.hot
        or fails(pool, address, now)
        or (known is not None and _price(pool, known, now) >= SHUNNED)
    )


def fails(pool: Pool, address: Endpoint, now: float) -> bool:
    """True if its last connections failed, and that is not long ago."""
    known = pool.backends.get(address)
    return known is not None and known.failing and now - known.failed < COOLING


def _begun(measured: Measured, now: float) -> Estimate:
    """A backend at its first look: how long its requests have waited by then is nobody's doing."""
    return Estimate(now, now, now, waiting=estimate.count(measured.waiting))


def _counted(known: Estimate) -> Estimate:
    """Its connections only from when it has its share: what it misses before is not owed to it."""
    begins = known.looked - known.since < SLOW_START
    return replace(known, opened=0.0, counted=known.looked) if begins else known


def _price(pool: Pool, known: Estimate, now: float) -> float:
    """What a request of a new connection meets, on average: the first one the backend as it is, later ones
    as it is in the long run."""
    first = pool.habits.first
    later = known.lasting / pool.lasting
    return first * known.price(now) + (1 - first) * (later if later > DEARER else 1.0)


def _times(pool: Pool, address: Endpoint, now: float) -> float:
    """How many times the cost of a usual backend this one has, whatever it has had: 1 to
    max(PRICES) / FIRST."""
    known = pool.backends.get(address)
    if known is None:
        return 1 / FIRST
    price = _price(pool, known, now)
    grown = max(FIRST, min(1.0, (now - known.since) / SLOW_START))
    return (price if price > ALIKE else 1.0) / grown


def _evened(pool: Pool, share: float) -> float:
    """What it costs to have had this share. Where connections are kept, their number makes them even."""
    return 1 + pool.habits.first * (evenness.times(share) - 1)


def _usual(backends: Collection[Estimate]) -> Usual | None:
    """What a third of the backends do not exceed: while up to two thirds of them are in trouble, of three
    one, it is still that of a good one, and of three or more the fastest alone does not set it."""
    times = sorted(it.response_time for it in backends if it.response_time is not None)
    if not times:
        return None
    dispersions = sorted(it.dispersion for it in backends if it.dispersion is not None)
    dispersion = dispersions[_third(len(dispersions))] if dispersions else 1.0
    doubt = min(MOST_DOUBT, max(1.0, dispersion / ORDINARY) ** 2)
    return Usual(max(SHORTEST, times[_third(len(times))]), doubt)


def _third(count: int) -> int:
    """Index, in so many figures in order, of the last of the first third; of three, of the second."""
    return max(1, (count - 1) // 3) if count >= 3 else 0


def _without_measurements(candidates: Sequence[Candidate]) -> Costs:
    return costs(candidates, Pool(), 0.0)


SCHEDULER = Scheduler("adaptive", "the lowest expected latency, by weight", _without_measurements)
"""Without measurements: least connection."""
