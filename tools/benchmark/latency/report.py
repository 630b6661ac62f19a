"""The runs as tables for people: one for each scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from rich.table import Table

from benchmark.latency.balancers import BALANCERS
from benchmark.latency.runs import Run
from benchmark.latency.scenes import scenes
from benchmark.statistics import spread
from benchmark.tables import new_table, number, spread_cell

_COLUMNS = ("p50", "p90", "p99", "max", "lost", "tries in vain", "share of each server, %", "from even")


def tables(runs: Sequence[Run]) -> Iterator[Table]:
    """Medians of the rounds, under the 99th percentile its least and largest."""
    for scene in scenes(0).values():
        played = [run for run in runs if run.scene == scene.name]
        if not played:
            continue
        recovers = scene.recovers is not None
        columns = [*_COLUMNS, "share back, s"] if recovers else _COLUMNS
        table = new_table(f"{scene.name}: {scene.title}; latency in ms", "", columns)
        for balancer in BALANCERS:
            turns = [run for run in played if run.balancer == balancer]
            if turns:
                table.add_row(balancer, *_row(turns), *([_recovery(turns)] if recovers else []))
        yield table


def lateness(runs: Sequence[Run]) -> str:
    """How exact the runs were, in one line."""
    generator, servers = max(run.late for run in runs), max(run.late_answers for run in runs)
    return (
        "Late for want of CPU, 99th percentile of the worst run: "
        f"requests {number(generator * 1e3, 1)} ms, answers {number(servers * 1e3, 1)} ms."
    )


def _row(turns: Sequence[Run]) -> Iterator[str]:
    def middle(figure: Callable[[Run], float]) -> float:
        return median(figure(run) for run in turns)

    yield number(middle(lambda run: run.p50) * 1e3)
    yield number(middle(lambda run: run.p90) * 1e3)
    yield spread_cell(spread(run.p99 * 1e3 for run in turns), 0)
    yield number(middle(lambda run: run.max) * 1e3)
    yield number(middle(lambda run: run.lost))
    yield number(middle(lambda run: sum(run.failures.values())))
    shares = zip(*(run.shares for run in turns), strict=True)
    answers = sum(sum(run.shares) for run in turns)
    yield " ".join(f"{sum(counts) / answers:.0%}".rstrip("%") for counts in shares)
    yield f"{middle(lambda run: run.deviation):.0%}"


def _recovery(turns: Sequence[Run]) -> str:
    times = [run.recovery for run in turns if run.recovery is not None]
    return number(median(times), 1) if len(times) == len(turns) else "not in time"
