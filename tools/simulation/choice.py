"""Which backend a new connection gets: the datapaths' select step, fast for thousands of backends.

The rule is that of ``l4lb.director.select``, which the tests compare this with, turn by turn.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush
from random import Random
from typing import Protocol

from l4lb.model import Costs, Key, Selection, Table
from l4lb.schedulers.price import Price, price

FEW = 24
"""Up to so many backends looking at each of them is faster than keeping them in order."""


class Load:
    """What a datapath counts of one backend and its price is made of."""

    __slots__ = ("idle", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0  # half-open connections and those with a request under way
        self.idle = 0  # established connections that wait for nothing


class Choice(Protocol):
    """A selection at work."""

    def choose(self) -> int | None:
        """The index of the backend for a new connection."""
        ...

    def moved(self, index: int) -> None:
        """The load of this backend has changed."""
        ...


def choice_for(selection: Selection, loads: list[Load], random: Random, turn: int) -> Choice:
    """Put a selection to work; ``turn`` is how many connections were placed before."""
    if isinstance(selection, Table):
        return _Slots(selection, random, turn)
    if selection.candidates or len(selection.costs) <= FEW:
        return _Compared(selection, loads, random, turn)
    return _Ordered(selection, loads, turn)


class _Slots:
    """A table by turn or by chance."""

    def __init__(self, table: Table, random: Random, turn: int) -> None:
        if table.key not in (Key.TURN, Key.RANDOM):
            raise ValueError("the simulated connections have no addresses to hash")
        self._table, self._random, self._turn = table, random, turn

    def choose(self) -> int | None:
        slots = self._table.slots
        if not slots:
            return None
        if self._table.key is Key.RANDOM:
            return slots[self._random.randrange(len(slots))]
        self._turn += 1
        return slots[(self._turn - 1) % len(slots)]

    def moved(self, index: int) -> None:
        pass


class _Compared:
    """Costs, each candidate looked at."""

    def __init__(self, costs: Costs, loads: list[Load], random: Random, turn: int) -> None:
        self._selection = costs
        self._drawn = costs.candidates if costs.candidates < len(costs.costs) else 0
        self._loads, self._random, self._turn = loads, random, turn

    def choose(self) -> int | None:
        selection, costs = self._selection, self._selection.costs
        if not costs:
            return None
        equals: list[int] = []
        least = (False, 0)
        for index, cost in self._random.sample(costs, self._drawn) if self._drawn else costs:
            load = self._loads[index]
            asked = price(selection, index, cost, in_flight=load.in_flight, idle=load.idle)
            if not equals or asked < least:
                equals, least = [index], asked
            elif asked == least:
                equals.append(index)
        if self._drawn:
            return equals[0]
        self._turn += 1
        return equals[(self._turn - 1) % len(equals)]

    def moved(self, index: int) -> None:
        pass


class _Ordered:
    """Costs, all compared: the backends of each price are kept together, the prices in a heap."""

    def __init__(self, costs: Costs, loads: list[Load], turn: int) -> None:
        self._costs, self._loads, self._turn = costs, loads, turn
        self._places = {index: place for place, (index, _) in enumerate(costs.costs)}
        self._prices: list[Price] = []
        self._at: dict[Price, list[int]] = {}  # price -> places, sorted
        for place in range(len(costs.costs)):
            found = self._price(place)
            self._prices.append(found)
            self._at.setdefault(found, []).append(place)
        self._heap = list(self._at)
        heapify(self._heap)

    def choose(self) -> int | None:
        while not (places := self._at.get(self._heap[0])):
            self._at.pop(heappop(self._heap), None)
        self._turn += 1
        return self._costs.costs[places[(self._turn - 1) % len(places)]][0]

    def moved(self, index: int) -> None:
        place = self._places.get(index)
        if place is None:
            return
        before, now = self._prices[place], self._price(place)
        if now == before:
            return
        self._prices[place] = now
        places = self._at[before]
        del places[bisect_left(places, place)]
        if now in self._at:
            insort(self._at[now], place)
        else:
            self._at[now] = [place]
            heappush(self._heap, now)

    def _price(self, place: int) -> Price:
        index, cost = self._costs.costs[place]
        load = self._loads[index]
        return price(self._costs, index, cost, in_flight=load.in_flight, idle=load.idle)
