"""Has the kernel forget what has expired and count anew: runs the programs of ``datapath/bpf/sweep.c``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from struct import Struct
from typing import Final

from l4lb.datapath.ebpf.layout import Path, word
from l4lb.datapath.ebpf.numbers import PATHS
from l4lb.datapath.libbpf import Map, Program, iterate

_COUNT: Final = Struct("=9I4xQ")
"""struct count: half_open, established, entries, outstanding; three of them before; connections and
requests before; asked."""

_THOROUGH: Final = 16
"""Of so many rounds one, the first, goes through what should be empty."""

_USED: Final = "the paths that are in use, and the totals"
_ORDER: Final = (
    ("begin", _USED),
    ("look_half_open4", "half_open4"),
    ("look_half_open6", "half_open6"),
    ("settle_half_open", _USED),
    ("look4", "blocks"),
    ("look6", "connections6"),
    ("settle", _USED),
)
_NO_COUNT: Final = PATHS + 1
"""In the place of the totals: they are left alone."""


class Sweep:
    """The programs of sweep.c with their maps."""

    def __init__(self, maps: Mapping[str, Map], programs: Mapping[str, Program]) -> None:
        self._maps = maps
        self._programs = programs
        self._rounds = 0

    def steps(self, paths: Mapping[int, Path]) -> Iterator[None]:
        """One round over all connections, in pieces of a few thousand entries. ``paths`` are all that there
        may be connections of, by number; others may come meanwhile."""
        for _, pieces in self.programs(paths):
            for _ in pieces:
                yield

    def programs(self, paths: Mapping[int, Path]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The same by program: its name, and what runs it piece by piece."""
        numbers = tuple(paths)
        # A map takes the longer the more connections there may be in it, not the more there are. One that
        # an iterator has missed may be left behind by the last path of its version.
        versions = {str(path.version) for path in paths.values()}
        if not self._rounds % _THOROUGH:
            versions |= {"4", "6"}
        self._rounds += 1
        totals = word(len(numbers))
        with closing(Map.create_array(4, len(numbers) + 1)) as used:
            used.update_batch((word(place), word(number)) for place, number in enumerate((*numbers, PATHS)))
            for name, over in _ORDER:
                if name.startswith("look") and name[-1] not in versions:
                    continue
                if paths.keys() - numbers:
                    # How many connections began on those that came meanwhile is not known.
                    used.update(totals, word(_NO_COUNT))
                yield name, iterate(self._programs[name], used if over is _USED else self._maps[over])

    def unused(self, paths: Collection[int]) -> set[int]:
        """Those of ``paths`` that no connection had in the last round. They are free only if nothing could
        begin on them since before that."""
        counts = self._maps["counts"]
        return {number for number in paths if not _COUNT.unpack(counts.lookup(word(number)) or b"")[2]}
