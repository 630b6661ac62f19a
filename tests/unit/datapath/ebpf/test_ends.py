"""The table of VIPs and backends, in the memory of a map."""

import random
import sys

import pytest

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.ends import Ends, end_number, size_for
from l4lb.datapath.ebpf.layout import END_BACKEND, END_REMOVED, END_SERVICE, end_key
from l4lb.datapath.ebpf.numbers import BACKENDS, SERVICES, OutOfNumbers

TCP, UDP = 6, 17
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
    """What a search for a key comes by: the number in the slot and its kind."""
    number = end_number(key)
    first, seen = number * SIZE >> layout.END_BITS, []
    for step in range(layout.END_PROBES):
        slot = slots[SIZE + (first + step) % SIZE]
        if not slot:
            break
        seen.append((slot >> layout.END_NUMBER & 0xFFFF, slot & layout.END_KIND))
    return seen


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def slots(memory):
    return memory.values.cast("Q")


def key_of(word):
    """The key of an end of IPv4 from the 49 bits that it is."""
    ip, port, of_udp = word & 0xFFFF_FFFF, word >> 32 & 0xFFFF, word >> 48
    return (
        ip.to_bytes(4, sys.byteorder)
        + port.to_bytes(2, sys.byteorder)
        + (UDP if of_udp else TCP).to_bytes(2, sys.byteorder)
    )


def colliding(count):
    """Keys whose searches begin at the same slot: what is multiplied can be divided again."""
    everything = 1 << layout.END_BITS
    inverse = pow(layout.END_FACTOR, -1, everything)
    words = ((everything // SIZE * 12_345 + number) * inverse % everything for number in range(count))
    return [key_of(word) for word in words]


class TestASlot:
    @pytest.mark.parametrize("version", [4, 6])
    def test_is_found_until_it_is_removed(self, memory, slots, version):
        table, key = Ends(memory, SIZE), end_key(address(1, version), 80, TCP)
        table.add(key, END_BACKEND, 7)
        assert found(slots, key) == [(7, END_BACKEND)]
        table.remove(key, END_BACKEND, 7)
        assert not any(slots)

    def test_a_vip_may_be_a_backend_too(self, memory, slots):
        table, key = Ends(memory, SIZE), end_key(address(1), 80, TCP)
        table.add(key, END_SERVICE, 0)
        table.add(key, END_BACKEND, 0)
        assert found(slots, key) == [(0, END_SERVICE), (0, END_BACKEND)]

    def test_what_is_behind_a_removed_one_is_still_found(self, memory, slots):
        table, (one, two, three) = Ends(memory, SIZE), colliding(3)
        for number, key in enumerate((one, two, three)):
            table.add(key, END_BACKEND, number)
        table.remove(two, END_BACKEND, 1)
        assert found(slots, three) == [(0, END_BACKEND), (0, END_REMOVED), (2, END_BACKEND)]

    def test_the_mark_of_a_removed_one_is_taken_again_or_goes(self, memory, slots):
        table, (one, two, three) = Ends(memory, SIZE), colliding(3)
        for number, key in enumerate((one, two)):
            table.add(key, END_BACKEND, number)
        table.remove(one, END_BACKEND, 0)
        table.add(three, END_BACKEND, 2)
        assert found(slots, three) == [(2, END_BACKEND), (1, END_BACKEND)]
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
            table.add(end_key(address(number), 80, TCP), END_BACKEND, number)
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
            assert (owner, END_BACKEND) in found(slots, known)
    for key, owner in model.items():
        table.remove(key, END_BACKEND, owner)
    assert not any(slots)


class TestWhatIsInASlot:
    """Of IPv4 it is the end, together with where it is: no program looks at what the number stands for."""

    def marks(self, key, kind=END_SERVICE):
        """Where programs look for an end, and for what, but for the number."""
        return set(Ends(Memory(), layout.FEWEST_ENDS).places(key, kind, 0))

    def test_no_two_ends_have_the_same_in_the_same_place(self):
        """Also where their searches meet: neighbours in every bit, and ends in each other's way."""
        rng, seen = random.Random(2), {}
        base = [rng.getrandbits(layout.END_BITS) for _ in range(20)]
        near = [word ^ 1 << bit for word in base for bit in range(layout.END_BITS)]
        inverse = pow(layout.END_FACTOR, -1, 1 << layout.END_BITS)
        known = layout.FEWEST_ENDS.bit_length() - 1  # bits, of where a search begins
        # These differ in nothing but that: the one is where the other comes after some steps.
        twins = [
            (5_000 + (step << layout.END_BITS - known)) * inverse % (1 << layout.END_BITS)
            for step in range(layout.END_PROBES)
        ]
        for key in {*map(key_of, base + near + twins), *colliding(40)}:
            for kind in (END_SERVICE, END_BACKEND):
                for mark in self.marks(key, kind):
                    assert seen.setdefault(mark, (key, kind)) == (key, kind)

    def test_a_number_stands_for_one_end(self):
        """What makes it one can be undone."""
        inverse = pow(layout.END_FACTOR, -1, 1 << layout.END_BITS)
        rng = random.Random(3)
        for _ in range(1_000):
            word = rng.getrandbits(layout.END_BITS)
            assert end_number(key_of(word)) * inverse % (1 << layout.END_BITS) == word

    def test_enough_of_it_is_in_the_slot(self):
        """With the bits that are known of where its search begins, all."""
        known = layout.FEWEST_ENDS.bit_length() - 1
        assert known + 64 - layout.END_REST >= layout.END_BITS
        assert layout.END_STEP * layout.END_PROBES == 1 << layout.END_REST
        assert layout.END_STEP == 1 << layout.END_NUMBER + 16

    def test_versions_are_apart(self):
        """An end of IPv6 may have the number of one of IPv4."""
        four = {slot & layout.END_IPV6 for _, slot in self.marks(end_key(address(1), 80, TCP))}
        six = {slot & layout.END_IPV6 for _, slot in self.marks(end_key(address(1, 6), 80, TCP))}
        assert (four, six) == ({0}, {layout.END_IPV6})
