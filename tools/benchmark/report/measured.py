"""The figures that have a target, out of what was measured. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmark.alone.ebpf import Alone, Case
from benchmark.alone.micro import Cost, established
from benchmark.alone.table_size import TableSize
from benchmark.endurance.endured import Endured


def of_python(costs: Sequence[Cost], sizes: Sequence[TableSize]) -> dict[str, float]:
    """Of the micro-benchmark; of a table's size medians of the rounds' ratios."""
    figures: dict[str, float] = {}
    slowest = established(costs)
    if slowest is not None:
        figures["established_ns"] = slowest * 1e9
    small = {size.round: size for size in sizes if size.connections == 1_000}
    large = {size.round: size for size in sizes if size.connections == 1_000_000}
    if large:
        figures["bytes_each"] = median(size.bytes_each for size in large.values())
    pairs = [(small[number], size) for number, size in large.items() if number in small]
    if pairs:
        figures["busy_growth"] = median(many.busy_ns / few.busy_ns for few, many in pairs)
        figures["fast_path_growth"] = median(many.fast_path_ns / few.fast_path_ns for few, many in pairs)
        figures["lookup_growth"] = median(many.lookup_ns / few.lookup_ns for few, many in pairs)
    return figures


_USUAL = Case(1_000)
_LARGER = {
    "backends": Case(1_000, backends=1_000),
    "services": Case(1_000, services=1_000),
    "flows": Case(1_000_000),
}


def of_programs(alone: Sequence[Alone]) -> dict[str, float]:
    """Of the eBPF programs alone: times of xdp; the memory of whichever takes more."""
    figures: dict[str, float] = {}
    rounds: dict[int, dict[Case, float]] = {}
    for it in alone:
        if it.datapath == "xdp":
            rounds.setdefault(it.round, {})[it.case] = it.ns
    usual = [times[_USUAL] for times in rounds.values() if _USUAL in times]
    if usual:
        figures["xdp_ns"] = median(usual)
    for name, larger in _LARGER.items():
        grown = [
            times[larger] / times[_USUAL]
            for times in rounds.values()
            if larger in times and times.get(_USUAL, 0) > 0
        ]
        if grown:
            figures[f"xdp_{name}_growth"] = median(grown)
    most = max((it.case.flows for it in alone if it.memory), default=0)
    sizes = [it.memory.each for it in alone if it.memory and it.case.flows == most]
    if sizes:
        figures["connection_bytes"] = median(sizes)
    return figures


def of_endurance(rounds: Sequence[Endured]) -> dict[str, float]:
    """Of floods and restarts: all connections that were lost."""
    figures: dict[str, float] = {}
    for it in rounds:
        name = f"{it.what}_lost"
        figures[name] = figures.get(name, 0.0) + it.lost
    kept = [it.during / it.before for it in rounds if it.what == "flood" and it.before]
    if kept:
        figures["flood_throughput"] = median(kept)
    return figures
