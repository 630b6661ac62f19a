"""Which backend a new connection gets."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from l4lb.director.lookup import Services
from l4lb.director.parse import parse
from l4lb.director.select import select, select_again
from l4lb.model import Costs, Endpoint, Key, Nat, Plan, Table
from l4lb.schedulers.hash import flow_hash, source_hash
from tests.unit.director.gateway import BACKEND, CLIENT, OTHER, VIP, service
from tests.unit.director.packets import Sent

THIRD = Endpoint.parse("10.2.0.13:8080")
BACKENDS = (BACKEND, OTHER, THIRD)
FLOW = Table(Key.FLOW, (2, 0, 1, 0))
SOURCE = Table(Key.SOURCE, (0, 1, 2))


def packet(client=CLIENT):
    frame = Sent(client, VIP).frame()
    return parse(frame, len(frame))


def state_of(selection, **words):
    services = Services()
    services.configure(Plan((service(*BACKENDS, selection=selection, **words),)))
    return services.at(6, VIP.ip, 80)


def chosen(state, count=1, client=CLIENT, now=0.0, random=None):
    random = random or Random(1)
    paths = [select(state, packet(client), now, random)[0] for _ in range(count)]
    return [path and path.address for path in paths]


class TestTable:
    def test_by_turn_the_slots_come_one_after_the_other(self):
        state = state_of(Table(Key.TURN, (2, 0, 0, 1)))
        expected = [THIRD, BACKEND, BACKEND, OTHER]
        assert chosen(state, 8) == expected * 2

    def test_a_turn_goes_on_where_it_stood_when_the_table_changes(self):
        state = state_of(Table(Key.TURN, (0, 1, 2)))
        chosen(state, 4)
        state.plan = service(*BACKENDS, selection=Table(Key.TURN, (1, 2)))
        assert chosen(state, 2) == [OTHER, THIRD]

    def test_at_random_each_slot_is_as_likely(self):
        state = state_of(Table(Key.RANDOM, (0, 0, 0, 1)))
        counts = Counter(chosen(state, 2000))
        assert 1400 < counts[BACKEND] < 1600
        assert counts[BACKEND] + counts[OTHER] == 2000

    def test_by_source_ports_do_not_matter(self):
        state = state_of(SOURCE)
        for last in range(20):
            client = Endpoint(bytes([10, 1, 1, last]), 1000 + last)
            slot = source_hash(client.ip) % 3
            assert chosen(state, 1, client) == chosen(state, 1, replace(client, port=7)) == [BACKENDS[slot]]

    def test_by_flow_they_do(self):
        state = state_of(FLOW)
        for port in range(1000, 1020):
            client = replace(CLIENT, port=port)
            slot = FLOW.slots[flow_hash(packet(client).key) % 4]
            assert chosen(state, 1, client) == [BACKENDS[slot]]

    def test_an_empty_one_chooses_nobody(self):
        assert chosen(state_of(Table(Key.TURN, ()))) == [None]


class TestCosts:
    def test_the_least_loaded_wins(self):
        state = state_of(Costs(((0, 65536), (1, 65536), (2, 65536))))
        for path, load in zip(state.choices, (3, 1, 2), strict=True):
            path.established = load
        assert set(chosen(state, 6)) == {OTHER}

    def test_load_is_weighed_by_cost(self):
        state = state_of(Costs(((0, 65536), (1, 16384))))
        state.choices[1].established = 2  # 3/4 of the price
        assert set(chosen(state, 4)) == {OTHER}
        state.choices[1].half_open = 2  # 5/4
        assert set(chosen(state, 4)) == {BACKEND}

    def test_connections_that_are_over_are_no_load(self):
        state = state_of(Costs(((0, 65536), (1, 65536))))
        state.choices[0].established = state.choices[0].closed = 9
        state.choices[1].established = 1
        assert set(chosen(state, 4)) == {BACKEND}

    def test_equals_take_turns(self):
        state = state_of(Costs(((0, 65536), (1, 65536), (2, 65536))))
        assert Counter(chosen(state, 9)) == dict.fromkeys(BACKENDS, 3)

    def test_two_candidates_are_drawn_and_compared(self):
        state = state_of(Costs(((0, 65536), (1, 65536), (2, 65536)), candidates=2))
        state.choices[0].established = 100
        counts = Counter(chosen(state, 3000))
        assert BACKEND not in counts
        assert 1350 < counts[OTHER] < 1650

    @pytest.mark.parametrize("candidates", [0, 3, 9])
    def test_as_many_candidates_as_there_are_is_all(self, candidates):
        state = state_of(Costs(((0, 65536), (1, 65536), (2, 65536)), candidates=candidates))
        state.choices[0].established = state.choices[2].established = 1
        assert set(chosen(state, 6)) == {OTHER}

    def test_none_choose_nobody(self):
        assert chosen(state_of(Costs(()))) == [None]


class TestAffinity:
    def test_a_remembered_client_is_not_scheduled(self):
        state = state_of(Table(Key.TURN, (0, 1, 2)), affinity_timeout=60.0)
        state.affinity.begin(CLIENT.ip, state.choices[2], 0.0)
        assert chosen(state, 3) == [THIRD] * 3
        assert state.turn == 0
        assert chosen(state, 1, now=60.0) == [BACKEND]

    def test_unless_its_backend_takes_none(self):
        state = state_of(Table(Key.TURN, (0, 1)), affinity_timeout=60.0)
        state.affinity.begin(CLIENT.ip, state.choices[2], 0.0)
        assert chosen(state) == [BACKEND]


class TestAgain:
    """From the middle of a connection, whoever sends."""

    @pytest.mark.parametrize("table", [FLOW, SOURCE], ids=["flow", "source"])
    def test_a_consistent_table_finds_the_same_backend(self, table):
        state = state_of(table)
        for port in range(1000, 1020):
            client = replace(CLIENT, port=port)
            again = select_again(state, client.ip, packet(client).key)
            assert [again.address] == chosen(state, 1, client)

    @pytest.mark.parametrize(
        ("selection", "words"),
        [
            (Table(Key.TURN, (0,)), {}),
            (Table(Key.RANDOM, (0,)), {}),
            (Costs(((0, 65536),)), {}),
            (FLOW, {"affinity_timeout": 60.0}),
            (FLOW, {"nat": Nat.FULL}),
            (Table(Key.FLOW, ()), {}),
        ],
        ids=["turn", "random", "costs", "affinity", "full NAT", "nobody"],
    )
    def test_others_cannot_tell(self, selection, words):
        state = state_of(selection, **words)
        assert select_again(state, CLIENT.ip, packet().key) is None
        assert state.turn == 0
