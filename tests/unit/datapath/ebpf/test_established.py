"""The table of established IPv4 connections, by the programs' own code in the kernel."""

import errno
import random
import sys
from collections import Counter
from pathlib import Path
from struct import Struct

import pytest

import build_bpf
from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.established import find_established
from l4lb.datapath.ebpf.layout import SLOT_SIZE, SLOT_TAKEN, TABLE_STEPS, end_key, wide_end, word
from l4lb.datapath.ebpf.tables import Tables
from l4lb.datapath.libbpf import Object
from l4lb.model import State
from tests.unit.datapath.ebpf.kernel import DISPLACED, home_of, run_together, slot_key

SOURCE = Path(__file__).with_name("established.c")
FRAME = bytes(64)
TALLY = Struct("=4Q")
SEED = 0x9E37_79B9_1234_5679


class Table:
    def __init__(self, opened):
        self.maps, self.programs = opened.maps, opened.programs
        self.pairs = self.maps["connections4"].max_entries
        self.memory = self.maps["connections4"].memory()
        settings = layout.SETTINGS.unpack(bytes(layout.SETTINGS.size))
        settings = settings._replace(seed=SEED, pairs=self.pairs)
        self.maps["settings"].update(word(0), layout.SETTINGS.pack(settings))

    def _run(self, program, key, number=0):
        connection = layout.Connection(seen=1, acked_by_client=number, state=State.ESTABLISHED)
        request = wide_end(key) + word(0) + layout.CONNECTION.pack(connection)
        self.maps["requests"].update(word(0), request)
        return self.programs[program].test_run(FRAME).retval

    def put(self, key, number=1):
        return self._run("put", key, number)

    def delete(self, key):
        return self._run("delete", key)

    def find(self, key):
        return self._run("find", key)

    def find_from_outside(self, key):
        """As the daemon does."""
        settings = layout.SETTINGS.unpack(self.maps["settings"].lookup(word(0)))
        found = find_established(self.maps, settings, key)
        return 0 if found is None else found.acked_by_client

    def slot(self, number):
        return self.memory[number * SLOT_SIZE : (number + 1) * SLOT_SIZE]

    def numbers(self):
        """Slot by key, as they are in slots."""
        taken = {number: slot_key(self.slot(number)) for number in range(2 * self.pairs)}
        return {key: number for number, key in taken.items() if key}

    def with_home(self, wanted, count, first=0):
        """Keys whose home is a pair."""
        found = []
        while len(found) < count:
            key = end_key(first.to_bytes(4, "big"), 80, 1)
            first += 1
            if home_of(self.maps, key)[0] == wanted:
                found.append(key)
        return found

    def check(self):
        """Every connection is where a search comes by, once, and its home knows."""
        away = Counter()
        keys = [slot_key(self.slot(number)) for number in range(2 * self.pairs)]
        taken = [key for key in keys if key]
        assert len(taken) == len(set(taken))
        for number, key in enumerate(keys):
            if not key:
                continue
            assert key & SLOT_TAKEN, "a slot that somebody is still writing to"
            home, _ = home_of(self.maps, (key & ~SLOT_TAKEN).to_bytes(8, sys.byteorder))
            assert (number // 2 - home) % self.pairs < TABLE_STEPS
            away[home] += number // 2 != home
        for pair in range(self.pairs):
            assert self.slot(2 * pair)[DISPLACED] == away[pair]
        return len(taken)


@pytest.fixture(scope="module")
def compiled(bpf_possible, tmp_path_factory):
    target = tmp_path_factory.mktemp("objects") / "established.bpf.o"
    build_bpf.compile_object(SOURCE, target)
    return target


@pytest.fixture
def make(compiled):
    opened = []

    def made(pairs):
        opened.append(Object.open(compiled, max_entries={"connections4": pairs}))
        opened[-1].load()
        return Table(opened[-1])

    yield made
    for each in opened:
        each.close()


def test_slots_are_lines_of_the_cache():
    assert SLOT_SIZE == 64


def test_a_connection_is_put_found_and_deleted(make):
    table = make(64)
    key = end_key(b"\x0a\x01\x00\x0a", 40_000, 7)
    assert table.find(key) == 0
    assert table.put(key, 5) == 0
    assert table.find(key) == 5
    assert table.put(key, 6) == errno.EEXIST
    assert table.find(key) == 5
    assert table.delete(key) == 0
    assert table.delete(key) == errno.ENOENT
    assert table.find(key) == 0
    assert table.check() == 0


@pytest.mark.parametrize("differs", [(b"\0\0\0\1", 1, 0), (b"\0\0\0\0", 2, 0), (b"\0\0\0\0", 1, 4095)])
def test_every_part_of_the_key_counts_also_where_all_is_0(make, differs):
    table = make(1)
    assert table.put(end_key(bytes(4), 0, 0), 9) == 0
    assert table.find(end_key(*differs)) == 0
    assert table.put(end_key(*differs), 8) == 0
    assert table.find(end_key(bytes(4), 0, 0)) == 9
    assert table.find(end_key(*differs)) == 8


def test_what_has_no_place_at_home_is_in_the_next_pairs_and_comes_back_to_a_slot_that_is_free(make):
    table = make(64)
    keys = table.with_home(63, 7)  # and on from the first pair
    for number, key in enumerate(keys, 1):
        assert table.put(key, number) == 0
    assert [table.find(key) for key in keys] == list(range(1, 8))
    assert [table.find_from_outside(key) for key in keys] == list(range(1, 8))
    assert sorted(table.numbers().values()) == [0, 1, 2, 3, 4, 126, 127]
    assert table.slot(126)[DISPLACED] == 5
    assert table.check() == 7
    assert table.delete(keys[0]) == 0
    assert [table.find(key) for key in keys] == [0, *range(2, 8)]
    assert table.put(keys[0], 9) == 0
    assert table.slot(126)[DISPLACED] == 5
    for key in keys:
        assert table.delete(key) == 0
    assert table.slot(126)[DISPLACED] == 0
    assert table.check() == 0


def test_an_entry_does_not_touch_the_count_that_is_in_its_slot(make):
    table = make(64)
    first, second, third = table.with_home(5, 3)
    for key in (first, second, third):
        table.put(key)
    assert table.delete(first) == 0
    assert table.put(first, 0xFFFF_FFFF) == 0
    assert table.slot(10)[DISPLACED] == 1
    assert table.find(third) == 1


def test_what_is_looked_for_in_vain_costs_one_pair_where_nothing_is_displaced(make):
    """A connection behind one that its home does not count is not found: nobody looks there."""
    table = make(64)
    *full, third = table.with_home(5, 3)
    for key in (*full, third):
        table.put(key)
    table.slot(10)[DISPLACED] = 0
    assert table.find(third) == 0


def test_where_no_slot_is_free_as_far_as_is_searched_there_is_no_room(make):
    table = make(64)
    keys = table.with_home(3, 2 * TABLE_STEPS + 1)
    assert [table.put(key) for key in keys[:-1]] == [0] * 2 * TABLE_STEPS
    assert table.put(keys[-1]) == errno.E2BIG
    assert table.find(keys[-1]) == 0
    assert table.check() == 2 * TABLE_STEPS
    assert table.delete(keys[0]) == 0
    assert table.put(keys[-1], 3) == 0
    assert table.find(keys[-1]) == 3


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_a_table_smaller_than_a_search(make, pairs):
    table = make(pairs)
    keys = [end_key(number.to_bytes(4, "big"), 1, 1) for number in range(2 * pairs + 1)]
    assert [table.put(key, at) for at, key in enumerate(keys[:-1], 1)] == [0] * 2 * pairs
    assert [table.find(key) for key in keys[:-1]] == list(range(1, 2 * pairs + 1))
    assert table.put(keys[-1]) == errno.E2BIG
    assert table.find(keys[-1]) == 0
    assert table.check() == 2 * pairs


def test_as_many_connections_as_pairs_have_room(make):
    table = make(4096)
    keys = [end_key(b"\x0a\x80\0" + bytes([number >> 12]), 10_000 + number, 1) for number in range(4096)]
    assert {table.put(key, number) for number, key in enumerate(keys, 1)} == {0}
    assert [table.find(key) for key in keys] == list(range(1, 4097))
    assert table.check() == 4096


def run_on(processors, table, program, repeat, keys=0):
    """Run a program on processors at a time; what it has counted."""
    table.maps["requests"].update(word(0), bytes(20) + word(keys) + bytes(layout.CONNECTION.size))
    table.maps["tallies"].update(word(0), bytes(TALLY.size))
    run_together(processors, [table.programs[program]] * len(processors), FRAME, repeat)
    return TALLY.unpack(table.maps["tallies"].lookup(word(0)))


@pytest.mark.parametrize(("pairs", "keys"), [(1, 2), (4, 8), (8, 24), (64, 100)])
def test_two_processors_at_a_time_lose_nothing_and_count_all_once(make, processors, pairs, keys):
    table = make(pairs)
    for _ in range(5):
        before = table.check()
        put, deleted, full, _ = run_on(processors, table, "churn", 200_000, keys)
        assert table.check() == before + put - deleted
        assert put > 1_000
        if keys > 2 * pairs:
            assert full


def test_of_two_that_put_the_same_connection_at_once_one_has(make, processors):
    table = make(1 << 16)
    for _ in range(3):
        table.memory[:] = bytes(len(table.memory))
        put, _, _, handed_out = run_on(processors, table, "twins", 60_000)
        assert handed_out == 120_000
        assert table.check() == put == 60_000


def test_a_model(make):
    """Random puts, deletes and searches, beside a dictionary."""
    table, model, rng = make(16), {}, random.Random(4)
    keys = [end_key(number.to_bytes(4, "big"), 80, 1) for number in range(40)]
    for number in range(1, 3_000):
        key = rng.choice(keys)
        what = rng.randrange(3)
        if what == 0:
            if key in model:
                assert table.put(key, number) == errno.EEXIST
            elif len(model) == 32:
                assert table.put(key, number) == errno.E2BIG
            else:
                assert table.put(key, number) == 0
                model[key] = number
        elif what == 1:
            assert table.delete(key) == (0 if model.pop(key, None) else errno.ENOENT)
        else:
            assert table.find(key) == table.find_from_outside(key) == model.get(key, 0)
    assert table.check() == len(model)


def test_the_secret_is_chosen_once(maps):
    def seed():
        return layout.SETTINGS.unpack(maps["settings"].lookup(word(0))).seed

    Tables(maps)
    chosen = seed()
    assert chosen & 1
    Tables(maps)
    assert seed() == chosen
    maps["settings"].update(word(0), bytes(layout.SETTINGS.size))
    Tables(maps)
    assert seed() != chosen
