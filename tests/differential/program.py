"""An eBPF program as a subject of differential runs."""

from __future__ import annotations

from tests.conformance.engines.program import ProgramEngine
from tests.differential.steps import Subject


class Program(ProgramEngine, Subject):
    """``tc``, or ``xdp`` with ``tc`` behind it."""
