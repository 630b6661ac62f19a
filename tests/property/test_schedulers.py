"""What the schedulers promise, for any backends and weights.

Maglev's disruption. Figure 12 of the paper plots how many slots change when k of 1000 backends
fail, averaged over random sets, at 65537 slots; its points are not given as numbers. The same
experiment with this implementation changes 0.7 % of the slots for k = 1 (0.1 % have to), 3.4 %
for k = 10 (1 % have to) and 4.7 % for k = 20 (2 % have to). So what moves without having to stays
below 3 %, and that is the bound tested here, also for few backends and for changes of weight.
Those typically stay below 1 %, but about one set in a thousand has two backends whose
permutations run alongside each other, and reaches 2 %.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import gcd, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l4lb.model import Endpoint, Table
from l4lb.schedulers import SCHEDULERS, Candidate, compile_selection
from l4lb.schedulers.least_connection import connection_costs
from l4lb.schedulers.maglev import maglev_table
from l4lb.schedulers.random import random_table
from l4lb.schedulers.round_robin import smooth_order, turn_table
from l4lb.schedulers.source_hash import source_table
from l4lb.schedulers.weights import MAX_SLOTS, slot_counts
from tests.unit.schedulers.candidates import counts, owners, with_weights

WEIGHT = st.one_of(st.integers(1, 10), st.integers(1, 65_535))
WEIGHTS = st.lists(WEIGHT, min_size=1, max_size=40)
SMALL_WEIGHTS = st.lists(st.integers(1, 10), min_size=1, max_size=20)

PRIME = 4093
"""Slots where the property does not depend on their number; fewer is faster."""

MAGLEV_DISRUPTION = 0.03
"""Share of the slots that may move without having to; see above."""

ADDRESS = st.one_of(
    st.builds(Endpoint, st.binary(min_size=4, max_size=4), st.integers(1, 65_535)),
    st.builds(Endpoint, st.binary(min_size=16, max_size=16), st.integers(1, 65_535)),
)


@st.composite
def backends(draw: st.DrawFn, min_size: int = 1) -> list[Candidate]:
    """Candidates of distinct addresses, of one weight or of several."""
    addresses = draw(st.lists(ADDRESS, min_size=min_size, max_size=20, unique=True))
    weight = st.just(draw(WEIGHT)) if draw(st.booleans()) else WEIGHT
    return [Candidate(index, address, draw(weight)) for index, address in enumerate(addresses)]


def without(candidates: Sequence[Candidate], gone: Candidate) -> list[Candidate]:
    """The others, numbered anew as in a config that a backend was removed from."""
    kept = [candidate for candidate in candidates if candidate != gone]
    return [replace(candidate, index=index) for index, candidate in enumerate(kept)]


def reweighted(candidates: Sequence[Candidate], position: int, weight: int) -> list[Candidate]:
    """The same with another weight for one."""
    changed = list(candidates)
    changed[position] = replace(changed[position], weight=weight)
    return changed


# Shares in proportion to weight


@given(WEIGHTS)
def test_slot_counts_are_exact_up_to_the_limit(weights: list[int]) -> None:
    divisor = gcd(*weights)
    held = slot_counts(weights)

    if sum(weights) // divisor <= MAX_SLOTS:
        assert held == [weight // divisor for weight in weights]
    else:
        assert MAX_SLOTS % sum(held) == 0


@given(st.lists(st.integers(1, 65_535), min_size=2, max_size=200))
def test_slot_counts_beyond_the_limit_are_off_by_less_than_a_slot(weights: list[int]) -> None:
    held = slot_counts(weights)
    to_limit = Fraction(MAX_SLOTS, sum(held))
    owed = [Fraction(weight * MAX_SLOTS, sum(weights)) for weight in weights]
    paid_for_the_lightest = sum(1 - share for share in owed if share < 1)

    assert min(held) >= 1
    for count, share in zip(held, owed, strict=True):
        assert abs(count * to_limit - share) < 1 + paid_for_the_lightest


@given(WEIGHTS)
def test_turns_and_random_have_slots_by_weight(weights: list[int]) -> None:
    candidates = with_weights(*weights)

    assert counts(turn_table(candidates), candidates) == slot_counts(weights)
    assert counts(random_table(candidates), candidates) == slot_counts(weights)


@given(SMALL_WEIGHTS)
def test_round_robin_goes_as_nginx_does(weights: list[int]) -> None:
    """Against the algorithm as nginx has it, which looks at every peer each time."""
    current = [0] * len(weights)
    expected = []
    for _ in range(sum(weights)):
        for peer, weight in enumerate(weights):
            current[peer] += weight
        best = max(range(len(weights)), key=lambda peer: current[peer])
        current[best] -= sum(weights)
        expected.append(best)

    assert smooth_order(weights) == expected


@given(SMALL_WEIGHTS, st.integers(1, 3))
def test_least_connection_fills_backends_by_weight(weights: list[int], rounds: int) -> None:
    costs = dict(connection_costs(with_weights(*weights)).costs)
    connections = dict.fromkeys(costs, 0)
    for _ in range(rounds * sum(weights)):
        least = min(costs, key=lambda index: costs[index] * (connections[index] + 1))
        connections[least] += 1

    assert list(connections.values()) == [rounds * weight for weight in weights]


@given(backends())
def test_maglev_shares_are_even(candidates: list[Candidate]) -> None:
    total = sum(candidate.weight for candidate in candidates)
    for candidate, held in zip(
        candidates, counts(maglev_table(candidates, PRIME), candidates), strict=True
    ):
        share = Fraction(candidate.weight, total)

        assert abs(held - share * PRIME) <= Fraction(1, 2) + share * len(candidates) / 2


@given(st.integers(1, 300), st.integers(1, 65_535))
@settings(max_examples=30)
def test_maglev_gives_equal_backends_the_same_to_one_slot(number: int, weight: int) -> None:
    candidates = with_weights(*[weight] * number)
    held = counts(maglev_table(candidates, PRIME), candidates)

    assert max(held) - min(held) <= 1


@given(backends())
def test_source_hash_shares_are_off_by_chance_only(candidates: list[Candidate]) -> None:
    slots = 4096
    total = sum(candidate.weight for candidate in candidates)
    for candidate, held in zip(
        candidates, counts(source_table(candidates, slots), candidates), strict=True
    ):
        share = candidate.weight / total
        deviation = sqrt(slots * share * (1 - share))

        assert abs(held - slots * share) <= 6 * deviation + 6


# Nothing but addresses and weights matters


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(weights=st.lists(st.integers(0, 10), max_size=10))
@settings(max_examples=5)
def test_the_same_candidates_give_the_same_selection(scheduler: str, weights: list[int]) -> None:
    candidates = with_weights(*weights)

    assert compile_selection(scheduler, candidates) == compile_selection(scheduler, candidates)


@pytest.mark.parametrize("compile_table", [maglev_table, source_table])
@given(candidates=backends(), seed=st.integers())
@settings(max_examples=30)
def test_hashes_do_not_see_the_order_of_the_config(
    compile_table: Callable[[Sequence[Candidate], int], Table], candidates: list[Candidate], seed: int
) -> None:
    shuffled = random.Random(seed).sample(candidates, len(candidates))
    shuffled = [replace(candidate, index=index) for index, candidate in enumerate(shuffled)]

    before, after = compile_table(candidates, PRIME), compile_table(shuffled, PRIME)

    assert owners(before, candidates) == owners(after, shuffled)


# What a change moves


@given(backends(min_size=2), st.data())
def test_source_hash_moves_only_the_slots_of_a_backend_that_goes(
    candidates: list[Candidate], data: st.DataObject
) -> None:
    """Read the other way round: a backend that comes takes slots, and no others move."""
    gone = data.draw(st.sampled_from(candidates))
    rest = without(candidates, gone)
    before = owners(source_table(candidates, PRIME), candidates)
    after = owners(source_table(rest, PRIME), rest)

    assert {old for old, new in zip(before, after, strict=True) if old != new} <= {gone.address}


@given(backends(min_size=2), st.data())
def test_source_hash_moves_slots_only_towards_a_backend_that_gains_weight(
    candidates: list[Candidate], data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(candidates) - 1))
    gain = data.draw(st.integers(1, 65_535))
    heavier = reweighted(candidates, position, candidates[position].weight + gain)
    before = owners(source_table(candidates, PRIME), candidates)
    after = owners(source_table(heavier, PRIME), heavier)

    moved_to = {new for old, new in zip(before, after, strict=True) if old != new}
    assert moved_to <= {candidates[position].address}


def disruption(before: list[Endpoint], after: list[Endpoint]) -> float:
    """Share of the slots that moved beyond those that had to for the numbers to come out."""
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    surplus = Counter(before) - Counter(after)
    return (moved - surplus.total()) / len(before)


# Derandomized, because no bound this tight holds for every set of addresses (see above).


@given(backends(min_size=2), st.data())
@settings(max_examples=40, derandomize=True)
def test_maglev_moves_few_slots_of_the_others_when_a_backend_goes(
    candidates: list[Candidate], data: st.DataObject
) -> None:
    """Read the other way round, the same holds when one comes."""
    rest = without(candidates, data.draw(st.sampled_from(candidates)))
    before = owners(maglev_table(candidates), candidates)
    after = owners(maglev_table(rest), rest)

    assert disruption(before, after) <= MAGLEV_DISRUPTION


@given(backends(min_size=2), st.data())
@settings(max_examples=40, derandomize=True)
def test_maglev_moves_few_slots_beyond_a_change_of_weight(
    candidates: list[Candidate], data: st.DataObject
) -> None:
    changed = reweighted(candidates, data.draw(st.integers(0, len(candidates) - 1)), data.draw(WEIGHT))
    before = owners(maglev_table(candidates), candidates)
    after = owners(maglev_table(changed), changed)

    assert disruption(before, after) <= MAGLEV_DISRUPTION


@pytest.mark.parametrize("failures", [1, 10, 20])
def test_maglev_withstands_concurrent_failures_as_in_figure_12(failures: int) -> None:
    candidates = with_weights(*[1] * 1000)
    failed = set(random.Random(failures).sample(candidates, failures))
    rest = [candidate for candidate in candidates if candidate not in failed]
    before = owners(maglev_table(candidates), candidates)
    after = owners(maglev_table(rest), rest)
    changed = sum(old != new for old, new in zip(before, after, strict=True)) / len(before)

    assert not {candidate.address for candidate in failed} & set(after)
    assert changed <= failures / 1000 + MAGLEV_DISRUPTION
