"""The figures as tables for people, one a scene."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table

from simulation.figures import Figures
from simulation.policies import POLICIES
from simulation.scenes import SCENES

OURS = "adaptive"


def tables(results: Mapping[str, Mapping[str, Figures]]) -> Iterator[Table]:
    """One table a scene. The best p99 of the others is what ours is divided by."""
    for scene, of in results.items():
        table = Table(title=f"{SCENES[scene].title} [dim]({scene})[/dim]", title_justify="left")
        table.add_column("latency in ms", no_wrap=True)
        for column in (
            "p50",
            "p90",
            "p99",
            "of best",
            "requests",
            "failed",
            "lost",
            "uneven",
            "avoided",
            "back",
        ):
            table.add_column(column, justify="right")
        rivals = (other.p99 for policy, other in of.items() if policy in POLICIES and policy != OURS)
        best = min(rivals, default=0.0)
        for policy, it in of.items():
            table.add_row(
                policy,
                f"{1000 * it.p50:.0f}",
                f"{1000 * it.p90:.0f}",
                f"{1000 * it.p99:.0f}",
                f"{it.p99 / best:.2f}" if best else "",
                str(it.requests),
                str(it.failed),
                str(it.lost),
                f"{it.uneven:.1%}",
                _after(it.avoided) if SCENES[scene].worsens else "",
                _after(it.recovered) if SCENES[scene].recovers else "",
                style="bold" if policy == OURS else None,
            )
        yield table


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
