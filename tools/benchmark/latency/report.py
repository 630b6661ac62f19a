"""The runs as tables for people: one for each scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from rich.table import Table

from benchmark.figures.statistics import spread
from benchmark.figures.tables import new_table, number, spread_cell
from benchmark.latency.balancers import BALANCERS, OURS
from benchmark.latency.runs import Run
from benchmark.latency.scenes import SCENES, scenes

_COLUMNS = (
    *("p50", "p90", "p99", "max", "lost", "tries in vain"),
    *("share of each server, %", "from even", "probe packets, %"),
)


def tables(runs: Sequence[Run]) -> Iterator[Table]:
    """Medians of the rounds, under the 99th percentile its least and largest."""
    for scene in scenes(0).values():
        played = [run for run in runs if run.scene == scene.name]
        if not played:
            continue
        columns = list(_COLUMNS)
        if scene.recovers is not None:
            columns.append("share back, s")
        if scene.busy is not None:
            columns.append("avoided, s")
        table = new_table(f"{scene.name}: {scene.title}; latency in ms", "", columns)
        for balancer in BALANCERS:
            turns = [run for run in played if run.balancer == balancer]
            if turns:
                row = list(_row(turns))
                if scene.recovers is not None:
                    row.append(_when([run.recovery for run in turns]))
                if scene.busy is not None:
                    row.append(_when([run.avoided for run in turns]))
                table.add_row(balancer, *row)
        yield table


def explanations(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """Of each scene its name, and what ``l4lb explain`` said in the middle of ours, in the first round."""
    for scene in SCENES:
        said = [run.explained for run in runs if (run.scene, run.balancer) == (scene, OURS)]
        if said and said[0] is not None:
            yield scene, said[0]


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
    probes = [run.probes for run in turns if run.probes is not None]
    yield f"{median(probes):.3%}".rstrip("%") if probes else "-"


def _when(times: Sequence[float | None]) -> str:
    seen = [time for time in times if time is not None]
    return number(median(seen), 1) if len(seen) == len(times) else "not in time"
