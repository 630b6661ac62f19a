"""Has the kernel forget what has expired and count anew: runs the programs of ``datapath/bpf/sweep.c``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from struct import Struct
from typing import Final

from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.libbpf import Map, Program, iterate

_COUNT: Final = Struct("=8IQ")
"""struct count: half_open, established, entries, outstanding, three of them before, begun before, asked."""

_ORDER: Final = (
    ("begin", "counts"),
    ("look_half_open4", "half_open4"),
    ("look_half_open6", "half_open6"),
    ("settle_half_open", "counts"),
    ("look4", "blocks"),
    ("look6", "connections6"),
    ("settle", "counts"),
)


class Sweep:
    """The programs of sweep.c with their maps."""

    def __init__(self, maps: Mapping[str, Map], programs: Mapping[str, Program]) -> None:
        self._maps = maps
        self._programs = programs

    def steps(self) -> Iterator[None]:
        """One round over all connections, in pieces of a few thousand entries."""
        for program, over in _ORDER:
            for _ in iterate(self._programs[program], self._maps[over]):
                yield

    def unused(self, paths: Collection[int]) -> set[int]:
        """Those of ``paths`` that no connection had in the last round. They are free only if nothing could
        begin on them since before that."""
        counts = self._maps["counts"]
        return {number for number in paths if not _COUNT.unpack(counts.lookup(word(number)) or b"")[2]}
