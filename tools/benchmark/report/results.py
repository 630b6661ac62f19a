"""Everything one run of the benchmark found out, and its form as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmark.alone.ebpf import Alone
from benchmark.alone.micro import Cost
from benchmark.alone.table_size import TableSize
from benchmark.endurance.endured import Endured
from benchmark.figures import statistics
from benchmark.figures.metrics import Measurement
from benchmark.figures.statistics import Table
from benchmark.figures.target import Target
from benchmark.latency import targets as latency_targets
from benchmark.latency.runs import Run
from benchmark.profile.hotspots import Hotspots
from benchmark.report import measured
from benchmark.report.targets import targets
from netlab.daemon import DATAPATHS


@dataclass(slots=True)
class Results:
    """What was measured; what was not is empty."""

    environment: Mapping[str, str]
    settings: Mapping[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    sizes: list[TableSize] = field(default_factory=list)
    hotspots: list[Hotspots] = field(default_factory=list)
    alone: list[Alone] = field(default_factory=list)
    endured: list[Endured] = field(default_factory=list)
    latency: list[Run] = field(default_factory=list)
    incomplete: str = ""  # why the run came to an end before it was through

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured."""
        return not any(
            (
                self.measurements,
                self.costs,
                self.sizes,
                self.hotspots,
                self.alone,
                self.endured,
                self.latency,
            )
        )

    @property
    def summary(self) -> Table:
        """Medians of every peer."""
        return statistics.summary(self.measurements)

    @property
    def ratios(self) -> dict[str, Table]:
        """Datapath of l4lb -> its ratios to the others; those that were measured."""
        names = {it.peer for it in self.measurements}
        tables = {us: statistics.compared(self.measurements, us) for us in DATAPATHS if us in names}
        return {us: table for us, table in tables.items() if table}

    @property
    def errors(self) -> dict[str, int]:
        """Of the loads and scenes; a run with any is not valid."""
        wrong = Counter(f"{it.balancer}, {it.scene}: {what}" for it in self.latency for what in it.wrong)
        return statistics.errors(self.measurements) | wrong

    @property
    def targets(self) -> list[Target]:
        """All of them, measured or not."""
        speed = targets(
            self.ratios,
            measured.of_python(self.costs, self.sizes)
            | measured.of_programs(self.alone)
            | measured.of_endurance(self.endured),
        )
        return [*speed, *latency_targets.targets(self.latency)]

    def as_json(self) -> dict[str, Any]:
        """Raw figures first, then what was computed from them."""
        return {
            "environment": dict(self.environment),
            "settings": dict(self.settings),
            "incomplete": self.incomplete,
            "measurements": [asdict(it) for it in self.measurements],
            "micro": [asdict(cost) for cost in self.costs],
            "table_sizes": [asdict(size) for size in self.sizes],
            "programs_alone": [asdict(it) for it in self.alone],
            "endurance": [asdict(it) for it in self.endured],
            "latency": [asdict(it) | {"deviation": it.deviation} for it in self.latency],
            "hotspots": [asdict(it) for it in self.hotspots],
            "medians": _table(self.summary),
            "ratios": {us: _table(table) for us, table in self.ratios.items()},
            "errors": self.errors,
            "targets": [_target(target) for target in self.targets],
        }


def _table(table: Table) -> dict[str, dict[str, Any]]:
    return {metric: {peer: asdict(it) for peer, it in row.items()} for metric, row in table.items()}


def _target(target: Target) -> dict[str, Any]:
    """JSON has no infinity, the time until what never happened: no value, and not reached."""
    value = target.value if target.value is None or math.isfinite(target.value) else None
    return asdict(target) | {"value": value, "reached": target.reached}
