"""The simulator's choice is the datapaths'."""

from math import inf
from random import Random

import pytest

from l4lb.director.lookup import Services
from l4lb.director.parse import parse
from l4lb.director.select import select
from l4lb.model import Costs, Endpoint, Key, Plan, Table
from simulation.choice import FEW, Load, choice_for
from tests.unit.director.gateway import CLIENT, VIP, service
from tests.unit.director.packets import Sent

MANY = FEW + 6
BACKENDS = tuple(Endpoint(bytes([10, 2, 0, last]), 80) for last in range(MANY))
WHO = range(MANY)


class Loaded:
    """In the place of a path of the director: who, and how much it has."""

    def __init__(self, index, load):
        self.index, self._load = index, load

    @property
    def in_flight(self):
        return self._load.in_flight

    @property
    def load(self):
        return self._load.in_flight + self._load.idle


@pytest.mark.parametrize(
    "selection",
    [
        Table(Key.TURN, (2, 0, 1, 0)),
        Table(Key.RANDOM, (2, 0, 1, 0)),
        Costs(((0, 5), (1, 7), (2, 5))),
        Costs(((0, 5), (1, 7), (2, 5)), idle=0, hot=frozenset({0})),
        Costs(((0, 5), (1, 7), (2, 5), (3, 5)), candidates=2, idle=100),
        Costs(tuple((index, 7) for index in WHO), idle=0),
        Costs(tuple((index, 5 + index % 3) for index in WHO), idle=100, hot=frozenset(range(0, MANY, 4))),
        Costs(tuple((index, 5) for index in WHO), candidates=3, hot=frozenset(WHO[5:])),
        Costs(()),
    ],
)
def test_the_same_backends_in_the_same_order(selection):
    loads = [Load() for _ in WHO]
    services = Services()
    services.configure(Plan((service(*BACKENDS, selection=selection),)))
    state = services.at(6, VIP.ip, 80)
    state.choices = tuple(Loaded(index, load) for index, load in enumerate(loads))
    choice = choice_for(selection, loads, Random(3), 0)
    frame = Sent(CLIENT, VIP).frame()
    packet = parse(frame, len(frame))
    theirs, events = Random(3), Random(5)

    state.keep_at = inf  # choices alone are compared
    for _ in range(500):
        path, _ = select(state, packet, 0.0, theirs)
        chosen = choice.choose()
        assert chosen == (path and path.index)
        if chosen is not None:
            loads[chosen].in_flight += 1
            choice.moved(chosen)
        for _ in range(events.randrange(3)):
            index = events.randrange(MANY)
            loads[index].idle = events.randrange(4)
            loads[index].in_flight = max(0, loads[index].in_flight - events.randrange(3))
            choice.moved(index)
