"""The hash table of all VIPs and backends, which every packet is looked up in twice.

It is in the map ``ends``, as memory: open addressing with linear probing. Packets are looked up while it
changes, so a slot is written by one store and no end that is there ever moves; one that is removed
leaves a mark as long as a search may have to go on behind it. The map has a place for a table of each
size, so one that gets too small gives way to a larger one that has all it has.
``datapath/bpf/ends.h`` is the other side.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.numbers import OutOfNumbers
from l4lb.datapath.libbpf import Map
from l4lb.model import Endpoint

_ROOM: Final = 8  # slots for each end, in the largest table fewer: few searches have a second step
_ALL: Final = (1 << 64) - 1
_EMPTY: Final = 0


def size_for(count: int) -> int:
    """Slots of the table for so many ends."""
    return min(layout.MOST_ENDS, max(layout.FEWEST_ENDS, 1 << (_ROOM * count - 1).bit_length()))


class Ends:
    """A table: which number of a service (``END_SERVICE``) or a backend (``END_BACKEND``) an end has.

    Attributes:
        size: its slots.
    """

    def __init__(self, ends: Map, size: int) -> None:
        """The table of that size as it is in the map."""
        self.size = size
        self._slots = ends.memory().cast("Q")[size : 2 * size]

    def clear(self) -> None:
        """Take everything out of a table that no packet is looked up in: a daemon that was killed may have
        begun to fill it."""
        self._slots.cast("B")[:] = bytes(8 * self.size)

    def add(self, key: bytes, kind: int, number: int) -> None:
        """From now on packets find it. What it is the number of is there already.

        Raises:
            OutOfNumbers: no slot is free as far as programs search, which 70,000 ends do not come near.
        """
        for at, slot in self.places(key, kind, number):
            if self._slots[at] in (_EMPTY, layout.END_REMOVED):
                self._slots[at] = slot
                return
        end = Endpoint(*layout.read_end(key)[:2])
        raise OutOfNumbers(f"no place for {end} in the table of VIPs and backends: it is too crowded there")

    def has(self, key: bytes, kind: int, number: int) -> bool:
        """True if packets find it."""
        return any(self._slots[at] == slot for at, slot in self.places(key, kind, number))

    def remove(self, key: bytes, kind: int, number: int) -> None:
        """No packet finds it any more."""
        for at, slot in self.places(key, kind, number):
            if self._slots[at] == slot:
                self._slots[at] = layout.END_REMOVED
                self._clear(at)
                return

    def _clear(self, at: int) -> None:
        """Take away marks that no search has to pass any more."""
        if self._slots[(at + 1) % self.size] != _EMPTY:
            return
        while self._slots[at] == layout.END_REMOVED:
            self._slots[at] = _EMPTY
            at = (at - 1) % self.size

    def places(self, key: bytes, kind: int, number: int) -> Iterator[tuple[int, int]]:
        """The slots where an end may be, each with what is in it if it is there."""
        mark = end_number(key)
        first = mark * self.size >> layout.END_BITS
        slot = mark << layout.END_REST & _ALL | number << layout.END_NUMBER | kind
        if layout.version_of(key) == 6:
            slot |= layout.END_IPV6
        for step in range(layout.END_PROBES):
            yield (first + step) % self.size, slot + step * layout.END_STEP


def end_number(key: bytes) -> int:
    """An end as a number of ``END_BITS``, as in ends.h. Distinct ends spread well, also neighbouring ones
    (Fibonacci hashing); who sends packets cannot make a search longer than it is for what is there."""
    end = layout.wide_end(key)
    at = [int.from_bytes(end[begin : begin + 4], sys.byteorder) for begin in (0, 4, 8, 12)]
    port, number = (int.from_bytes(end[begin : begin + 2], sys.byteorder) for begin in (16, 18))
    word = at[3] | (port | (number & layout.END_PROTOCOL) << 16) << 32
    if layout.version_of(key) == 6:
        rest = ((at[0] | at[1] << 32) * layout.END_MULTIPLIER + at[2]) & _ALL
        word = (
            (word + rest * layout.END_MULTIPLIER) * layout.END_MULTIPLIER & _ALL
        ) >> 64 - layout.END_BITS
    return word * layout.END_FACTOR & (1 << layout.END_BITS) - 1
