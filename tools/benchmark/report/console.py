"""The results as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.alone.ebpf import Alone
from benchmark.alone.micro import Cost
from benchmark.alone.table_size import TableSize
from benchmark.endurance.endured import Endured
from benchmark.figures.metrics import METRICS
from benchmark.figures.statistics import spread
from benchmark.figures.tables import new_table, number, spread_cell
from benchmark.figures.target import Target
from benchmark.latency import report as latency
from benchmark.peers.peers import PEERS
from benchmark.profile.hotspots import Hotspots
from benchmark.report.results import Results


def _medians(results: Results) -> Iterator[Table]:
    if not results.measurements:
        return
    peers = [name for name in PEERS if any(it.peer == name for it in results.measurements)]
    summary = results.summary
    metrics = [metric for metric in METRICS if metric.name in summary]

    table = new_table("Medians (least - largest)", "", [PEERS[name].title for name in peers])
    for metric in metrics:
        row = [spread_cell(summary[metric.name].get(peer), metric.digits) for peer in peers]
        table.add_row(f"{metric.title}\n[dim]{metric.unit}[/dim]", *row)
    yield table

    for us, ratio in results.ratios.items():
        others = [name for name in peers if name != us]
        title = f"{PEERS[us].title}, divided by: medians of the rounds' ratios (least - largest)"
        table = new_table(title, "", [PEERS[name].title for name in others])
        for metric in metrics:
            if metric.name not in ratio:
                continue
            row = [spread_cell(ratio[metric.name].get(peer), 2) for peer in others]
            less = "[dim]less is better[/dim]" if metric.lower_is_better else "[dim]more is better[/dim]"
            table.add_row(f"{metric.title}\n{less}", *row)
        yield table


def _costs(costs: Sequence[Cost]) -> Iterator[Table]:
    if costs:
        table = new_table("Python alone, CPU time", "", ["µs", "least", "largest", "per"])
        for cost in costs:
            values = (cost.seconds.median, cost.seconds.low, cost.seconds.high)
            table.add_row(cost.title, *(number(value * 1e6, 2) for value in values), cost.per)
        yield table


_SIZES: Final[Sequence[tuple[str, Callable[[TableSize], float], int]]] = (
    ("memory, bytes each", lambda it: it.bytes_each, 0),
    ("fast path, 1 000 busy connections, ns", lambda it: it.busy_ns, 0),
    ("fast path, all in random order, ns", lambda it: it.fast_path_ns, 0),
    ("  of it, the lookup alone, ns", lambda it: it.lookup_ns, 0),
    ("handshake, 3 packets, µs", lambda it: it.handshake_us, 1),
    ("expiry of one, µs", lambda it: it.expiry_us, 2),
    ("longest housekeeping step, ms", lambda it: it.longest_tick_ms, 1),
)
"""What is shown of a table's size: title, figure, digits behind the point."""


def _sizes(sizes: Sequence[TableSize]) -> Iterator[Table]:
    if sizes:
        counts = sorted({it.connections for it in sizes})
        columns = [number(count) for count in counts]
        table = new_table("Size of the connection table, medians (least - largest)", "connections", columns)
        for title, figure, digits in _SIZES:
            seen = [spread(figure(it) for it in sizes if it.connections == count) for count in counts]
            table.add_row(title, *(spread_cell(it, digits) for it in seen))
        yield table


def _alone(rows: Sequence[Alone]) -> Iterator[Table]:
    if not rows:
        return
    columns = [
        "program, ns",
        "bare redirect, ns",
        "bytes, maps",
        "bytes, slab",
        "with table",
        "at rest, MB",
    ]
    table = new_table("eBPF programs alone: an established packet, a connection; medians", "", columns)
    for datapath, case in dict.fromkeys((it.datapath, it.case) for it in rows):
        found = [it for it in rows if (it.datapath, it.case) == (datapath, case)]
        bare = [it.redirect_ns for it in found if it.redirect_ns is not None]
        memory = [it.memory for it in found if it.memory is not None]
        table.add_row(
            f"{datapath}: {number(case.flows)} flows, {number(case.backends)} backends, "
            f"{number(case.services)} services",
            spread_cell(spread(it.ns for it in found), 0),
            spread_cell(spread(bare) if bare else None, 0),
            *(
                number(median(values), 0) if values else "-"
                for values in (
                    [it.maps for it in memory],
                    [it.slab for it in memory],
                    [it.each for it in memory],
                    [it.at_rest / 1e6 for it in memory],
                )
            ),
        )
    yield table


def _endured(rows: Sequence[Endured]) -> Iterator[Table]:
    if rows:
        columns = [
            "transfers",
            "lost",
            "stalled",
            "before, Gbit/s",
            "during",
            "start",
            "flood, packets/s",
            "passed on",
        ]
        table = new_table("What a thousand transfers live through", "", columns)
        for it in rows:
            table.add_row(
                f"{it.datapath}: {it.what}",
                *(number(it.transfers), number(it.lost), number(it.stalled)),
                *(number(it.before / 1e9, 2), number(it.during / 1e9, 2)),
                number(it.starting / 1e9, 2) if it.what == "restart" else "-",
                *(number(it.packets), number(it.passed)) if it.what == "flood" else ("-", "-"),
            )
        yield table


def _hotspots(loads: Sequence[Hotspots]) -> Iterator[Table]:
    for it in loads:
        table = new_table(f"The packet process under {it.load}", "", [""])
        table.add_row("CPU, user", f"{it.user / it.seconds:.0%} of a core")
        table.add_row("CPU, system", f"{it.system / it.seconds:.0%} of a core")
        table.add_row("packets a second", number(it.packets / it.seconds))
        each = (it.user + it.system) / it.packets * 1e6 if it.packets else 0.0
        table.add_row("CPU a packet", f"{number(each, 1)} µs")
        for profiler, shares in (("perf", it.kernel), ("py-spy", it.python)):
            if shares:
                table.add_section()
                table.add_row(f"[bold]share of {profiler}'s samples[/bold]")
            for what, share in shares:
                table.add_row(escape(what), f"{share:.1%}")
        yield table


def _targets(targets: Sequence[Target]) -> Iterator[Table]:
    measured = [target for target in targets if target.value is not None]
    if measured:
        table = new_table("Targets", "", ["to reach", "measured", ""])
        for target in measured:
            digits = 2 if target.limit < 100 else 0
            verdict = "[green]reached[/green]" if target.reached else "[red]not reached[/red]"
            bound = f"{target.bound} {number(target.limit, digits)} {target.unit}".rstrip()
            table.add_row(target.title, bound, number(target.value or 0.0, digits), verdict)
        yield table


def show(results: Results, console: Console) -> None:
    """Print all that was measured."""
    console.print(", ".join(f"{name}: {value}" for name, value in results.environment.items()), style="dim")
    for table in (
        *_medians(results),
        *_costs(results.costs),
        *_sizes(results.sizes),
        *_alone(results.alone),
        *_endured(results.endured),
        *_hotspots(results.hotspots),
        *latency.tables(results.latency),
        *_targets(results.targets),
    ):
        console.print()
        console.print(table)
    for scene, said in latency.explanations(results.latency):
        console.print(f"\n[bold]{scene}[/bold]: l4lb explain, while it went on")
        console.print(escape(said.rstrip()), highlight=False)
    if results.latency:
        console.print(f"\n{latency.lateness(results.latency)}")
    if results.errors:
        console.print("\n[red]Errors: the run is not valid[/red]")
        for what, count in results.errors.items():
            console.print(f"  {escape(what)}: {count}")
    if results.incomplete:
        console.print(f"\n[red]Incomplete: {escape(results.incomplete)}[/red]")
    elif results.measurements and not results.errors:
        console.print("\nNo errors in any load.")
