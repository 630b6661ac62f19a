"""Everything one run of the benchmark found out, and its form as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmark import statistics
from benchmark.hotspots import Hotspots
from benchmark.metrics import Measurement
from benchmark.micro import Cost, established
from benchmark.peers import US
from benchmark.statistics import Table
from benchmark.table_size import TableSize
from benchmark.targets import Target, targets


@dataclass(slots=True)
class Results:
    """What was measured; what was not is empty."""

    environment: Mapping[str, str]
    settings: Mapping[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    sizes: list[TableSize] = field(default_factory=list)
    hotspots: list[Hotspots] = field(default_factory=list)

    @property
    def summary(self) -> Table:
        """Medians of every peer."""
        return statistics.summary(self.measurements)

    @property
    def ratios(self) -> Table:
        """l4lb to its peers."""
        return statistics.compared(self.measurements, US)

    @property
    def errors(self) -> dict[str, int]:
        """Of the loads; a run with any is not valid."""
        return statistics.errors(self.measurements)

    @property
    def targets(self) -> list[Target]:
        """All of them, measured or not."""
        figures: dict[str, float] = {}
        slowest = established(self.costs)
        if slowest is not None:
            figures["established_ns"] = slowest * 1e9
        by_size = {size.connections: size for size in self.sizes}
        small, large = by_size.get(1_000), by_size.get(1_000_000)
        if large is not None:
            figures["bytes_each"] = large.bytes_each
            if small is not None:
                figures["busy_growth"] = large.busy_ns / small.busy_ns
                figures["fast_path_growth"] = large.fast_path_ns / small.fast_path_ns
                figures["lookup_growth"] = large.lookup_ns / small.lookup_ns
        return targets(self.ratios, figures)

    def as_json(self) -> dict[str, Any]:
        """Raw figures first, then what was computed from them."""
        return {
            "environment": dict(self.environment),
            "settings": dict(self.settings),
            "measurements": [asdict(it) for it in self.measurements],
            "micro": [asdict(cost) for cost in self.costs],
            "table_sizes": [asdict(size) for size in self.sizes],
            "hotspots": [asdict(it) for it in self.hotspots],
            "medians": _table(self.summary),
            "ratios": _table(self.ratios),
            "errors": self.errors,
            "targets": [asdict(target) | {"reached": target.reached} for target in self.targets],
        }


def _table(table: Table) -> dict[str, dict[str, Any]]:
    return {metric: {peer: asdict(it) for peer, it in row.items()} for metric, row in table.items()}
