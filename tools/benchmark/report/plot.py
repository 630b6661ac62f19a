"""What was measured as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmark.alone.ebpf import Alone, Case
from benchmark.figures.metrics import METRICS, Metric
from benchmark.figures.panels import LIMIT, OURS, THEIRS, bars
from benchmark.figures.statistics import spread
from benchmark.latency.plot import drawings as latency_drawings
from benchmark.peers.peers import PEERS
from benchmark.report.results import Results
from netlab.daemon import DATAPATHS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS: Final = 4
_LIMITS: Final = ("forwarding", "direct", "redirect")
_COLOURS: Final = dict.fromkeys(DATAPATHS, OURS) | dict.fromkeys(_LIMITS, LIMIT)


def plot(results: Results, file: Path) -> None:
    """Draw a panel for each metric, for the time of each eBPF program, and for each scene: bars are
    medians, dots are the rounds. The kind of picture goes by the file's ending.

    Raises:
        OSError: the file cannot be written.
        ValueError: the ending names no kind of picture, or there is nothing to draw.
    """
    # Half a second to import, and only wanted with --plot.
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    drawings = _drawings(results)
    if not drawings:
        raise ValueError("nothing was measured that can be drawn")
    columns = min(_COLUMNS, len(drawings))
    rows = -(-len(drawings) // columns)
    size = 3.6 * max(columns, 2), 3.4 * rows
    figure, panels = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    for panel, draw in zip(panels.flat, drawings, strict=False):
        draw(panel)
        panel.tick_params(axis="x", labelsize=8)
        for label in panel.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
        panel.tick_params(axis="y", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.flat[len(drawings) :]:
        panel.set_visible(False)
    of = results.environment
    figure.suptitle(
        f"l4lb {of['l4lb']} and others in one lab, medians and rounds\n"
        f"{of['cpu']}, Linux {of['kernel']}, Python {of['python']}",
        fontsize=9,
    )
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _drawings(results: Results) -> list[Callable[[Axes], None]]:
    """What draws each panel."""
    summary = results.summary

    def compared(metric: Metric) -> Callable[[Axes], None]:
        row = summary[metric.name]
        peers = [name for name in PEERS if name in row]
        better = "less is better" if metric.lower_is_better else "more is better"
        title = f"{metric.title}\n{metric.unit}, {better}"
        colours = [_COLOURS.get(name, THEIRS) for name in peers]
        return lambda panel: bars(panel, title, peers, [row[name] for name in peers], colours)

    datapaths = dict.fromkeys(it.datapath for it in results.alone)
    return [
        *(compared(metric) for metric in METRICS if metric.drawn and metric.name in summary),
        *(_alone([it for it in results.alone if it.datapath == name]) for name in datapaths),
        *latency_drawings(results.latency),
    ]


def _alone(rows: Sequence[Alone]) -> Callable[[Axes], None]:
    """The time of one datapath's program in every case, and of bare redirect with the same packets."""
    cases = sorted({it.case for it in rows}, key=lambda it: (it.services, it.backends, it.flows))
    names = [_short(case) for case in cases]
    times = [spread(it.ns for it in rows if it.case == case) for case in cases]
    colours = [OURS] * len(cases)
    bare = [it.redirect_ns for it in rows if it.redirect_ns is not None]
    if bare:
        names.append("bare redirect")
        times.append(spread(bare))
        colours.append(LIMIT)
    title = f"{rows[0].datapath} alone, established packet\nns, less is better"
    return lambda panel: bars(panel, title, names, times, colours)


def _short(case: Case) -> str:
    """A case in a few letters, with what is not as usual."""
    thousands = (case.flows // 1_000_000, "M") if case.flows >= 1_000_000 else (case.flows // 1_000, "k")
    words = ["{}{} flows".format(*thousands) if thousands[0] else f"{case.flows} flow"]
    usual = Case(case.flows)
    if case.backends != usual.backends:
        words.append(f"{case.backends} backends")
    if case.services != usual.services:
        words.append(f"{case.services} services")
    return ", ".join(words)
