"""The table of VIPs and backends, in the memory of a map."""

import random
import sys

import pytest

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.ends import Ends, first_slot, size_for
from l4lb.datapath.ebpf.layout import END_BACKEND, END_REMOVED, END_SERVICE, end_key
from l4lb.datapath.ebpf.numbers import BACKENDS, SERVICES, OutOfNumbers

TCP = 6
SIZE = 1 << 14  # slots


class Memory:
    """A map's values as memory, without a kernel."""

    def __init__(self):
        self.values = memoryview(bytearray(2 * layout.MOST_ENDS * 8))

    def memory(self):
        return self.values


def address(number, version=4):
    return (0x0A00_0000 + number).to_bytes(4 if version == 4 else 16, "big")


def found(slots, key):
    """What a search for a key comes by."""
    first, seen = first_slot(key, SIZE), []
    for step in range(layout.END_PROBES):
        slot = slots[SIZE + (first + step) % SIZE]
        if not slot:
            break
        seen.append(slot)
    return seen


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def slots(memory):
    return memory.values.cast("Q")


def colliding(count):
    """Keys whose searches begin at the same slot: what is multiplied can be divided again."""
    inverse = pow(layout.END_MULTIPLIER, -1, 1 << 64)
    products = ((1 << 64) // SIZE * 12_345 + number for number in range(count))
    return [(product * inverse % (1 << 64)).to_bytes(8, sys.byteorder) for product in products]


class TestASlot:
    @pytest.mark.parametrize("version", [4, 6])
    def test_is_found_until_it_is_removed(self, memory, slots, version):
        table, key = Ends(memory, SIZE), end_key(address(1, version), 80, TCP)
        table.add(key, END_BACKEND, 7)
        assert found(slots, key) == [7 << 2 | END_BACKEND]
        table.remove(key, END_BACKEND, 7)
        assert not any(slots)

    def test_a_vip_may_be_a_backend_too(self, memory, slots):
        table, key = Ends(memory, SIZE), end_key(address(1), 80, TCP)
        table.add(key, END_SERVICE, 0)
        table.add(key, END_BACKEND, 0)
        assert found(slots, key) == [END_SERVICE, END_BACKEND]

    def test_what_is_behind_a_removed_one_is_still_found(self, memory, slots):
        table, (one, two, three) = Ends(memory, SIZE), colliding(3)
        for number, key in enumerate((one, two, three)):
            table.add(key, END_BACKEND, number)
        table.remove(two, END_BACKEND, 1)
        assert found(slots, three) == [END_BACKEND, END_REMOVED, 2 << 2 | END_BACKEND]

    def test_the_mark_of_a_removed_one_is_taken_again_or_goes(self, memory, slots):
        table, (one, two, three) = Ends(memory, SIZE), colliding(3)
        for number, key in enumerate((one, two)):
            table.add(key, END_BACKEND, number)
        table.remove(one, END_BACKEND, 0)
        table.add(three, END_BACKEND, 2)
        assert found(slots, three) == [2 << 2 | END_BACKEND, 1 << 2 | END_BACKEND]
        table.remove(three, END_BACKEND, 2)
        table.remove(two, END_BACKEND, 1)
        assert not any(slots)

    def test_too_crowded_is_refused_and_nothing_is_lost(self, memory, slots):
        table, keys = Ends(memory, SIZE), colliding(layout.END_PROBES + 1)
        for number, key in enumerate(keys[:-1]):
            table.add(key, END_BACKEND, number)
        with pytest.raises(OutOfNumbers, match="no place for"):
            table.add(keys[-1], END_BACKEND, 99)
        assert len(found(slots, keys[0])) == layout.END_PROBES


def test_eight_slots_for_each_until_the_largest_table():
    few, most = layout.FEWEST_ENDS, layout.MOST_ENDS
    counts = 0, few // 8, few // 8 + 1, most // 8, most // 8 + 1, BACKENDS + SERVICES
    assert [size_for(count) for count in counts] == [few, few, 2 * few, most, most, most]


def test_tables_of_different_sizes_have_nothing_in_common(memory, slots):
    """What is in one is not in another, also of one that begins where it ends."""
    sizes = [1 << n for n in range(layout.FEWEST_ENDS.bit_length() - 1, layout.MOST_ENDS.bit_length())]
    for size in sizes:
        Ends(memory, size).clear()
        table = Ends(memory, size)
        for number in range(size // 8):
            table.add(end_key(address(number), 80, TCP), END_BACKEND, size + number)
    assert sum(slot != 0 for slot in slots) == sum(size // 8 for size in sizes)
    Ends(memory, sizes[3]).clear()
    assert sum(slot != 0 for slot in slots) == sum(size // 8 for size in sizes if size != sizes[3])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("spread", [1, 256, 65_536])
def test_as_many_as_have_numbers_fit(memory, version, spread):
    """Neighbouring addresses, one in every subnet, many ports of few hosts."""
    table = Ends(memory, size_for(BACKENDS + SERVICES))
    for number in range(BACKENDS):
        where = address(number * spread % 0x00FF_FFFF, version)
        table.add(end_key(where, 80 + number // 255, TCP), END_BACKEND, number)
    for number in range(SERVICES):
        table.add(end_key(address(0x0100_0000, version), number + 1, TCP), END_SERVICE, number)


def test_random_changes_leave_what_a_dictionary_has(memory, slots):
    rng, table, model = random.Random(1), Ends(memory, SIZE), {}
    keys = colliding(8) + [end_key(address(number, 6), 80, TCP) for number in range(8)]
    for number in range(2_000):
        key = rng.choice(keys)
        if key in model:
            table.remove(key, END_BACKEND, model.pop(key))
        else:
            table.add(key, END_BACKEND, number)
            model[key] = number
        for known, owner in model.items():
            assert owner << 2 | END_BACKEND in found(slots, known)
    for key, owner in model.items():
        table.remove(key, END_BACKEND, owner)
    assert not any(slots)
