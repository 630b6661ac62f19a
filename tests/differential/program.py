"""An eBPF program as a subject of differential runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from l4lb.datapath.libbpf import Map
from tests.conformance.engines.program import ProgramEngine
from tests.differential.selections import Selections
from tests.differential.steps import Subject


class Program(ProgramEngine, Subject):
    """``tc``, or ``xdp`` with ``tc`` behind it."""

    def written(self, maps: Mapping[str, Map]) -> Mapping[str, Map]:
        """See ``ProgramEngine``."""
        return {**maps, "selections": Selections(maps["selections"])}


@contextlib.contextmanager
def running(kind: str) -> Iterator[Program]:
    """One that can be tried, and is closed behind."""
    program = Program(kind)
    try:
        with program.inside():
            yield program
    finally:
        program.close()
