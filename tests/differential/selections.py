"""The map of selections, without waiting for the kernel.

After each write to a map of maps the kernel waits until no program reads what was there: tens of
milliseconds, several times in a run whose packets take twenty. But here no program runs meanwhile. So each
service's number gets an array of its own for good, and what is written are the contents of that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.libbpf import Map

_WORDS: Final = 16
"""Of an array: more than a selection has in any run."""

_BEYOND: Final = word(0xFFFF_FFFF)
"""What the programs make of a word behind an array's end (NO_PATH)."""

_AT_ONCE: Final = 256
"""Arrays that are made together: numbers are given out in turn."""


class Selections(Map):
    """The map for the daemon's code, as far as that writes it."""

    def __init__(self, real: Map) -> None:
        super().__init__(real.fd, real.name, owned=False)
        self._made: set[int] = set()

    def update_batch(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """See ``Map``."""
        for key, value in pairs:
            wanted = Map(int.from_bytes(value, sys.byteorder), owned=False)
            self._write(key, [each for _, each in wanted.items()])

    def _write(self, key: bytes, words: Sequence[bytes]) -> None:
        assert len(words) <= _WORDS, "a longer selection than any run has"
        number = int.from_bytes(key, sys.byteorder)
        if number not in self._made:
            self._make(number - number % _AT_ONCE)
        array = Map.from_id(int.from_bytes(self.lookup(key) or b"", sys.byteorder))
        rest = [_BEYOND] * (_WORDS - len(words))
        array.update_batch([(word(at), each) for at, each in enumerate([*words, *rest])])
        array.close()

    def _make(self, first: int) -> None:
        arrays = [Map.create_array(4, _WORDS, inner=True) for _ in range(_AT_ONCE)]
        super().update_batch([(word(at), word(array.fd)) for at, array in enumerate(arrays, first)])
        for array in arrays:
            array.close()
        self._made.update(range(first, first + _AT_ONCE))
