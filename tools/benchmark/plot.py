"""The comparison as a picture."""

from __future__ import annotations

from pathlib import Path

from benchmark.metrics import METRICS
from benchmark.peers import PEERS, US
from benchmark.results import Results

_COLUMNS = 4
_OURS, _THEIRS, _LIMIT = "#d1495b", "#5b8fb9", "#b0b0b0"


def plot(results: Results, file: Path) -> None:
    """Draw a panel for each metric: bars are medians, dots are the rounds. The kind of picture goes
    by the file's ending.

    Raises:
        OSError: the file cannot be written.
        ValueError: the ending names no kind of picture, or there is nothing to draw.
    """
    # Half a second to import, and only wanted with --plot.
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    summary = results.summary
    metrics = [metric for metric in METRICS if metric.name in summary]
    if not metrics:
        raise ValueError("nothing was compared")
    columns = min(_COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(3.6 * columns, 3.2 * rows), squeeze=False)
    for panel, metric in zip(panels.flat, metrics, strict=False):
        row = summary[metric.name]
        peers = [name for name in PEERS if name in row]
        colours = [{US: _OURS, "forwarding": _LIMIT}.get(name, _THEIRS) for name in peers]
        panel.bar(peers, [row[name].median for name in peers], color=colours, width=0.7)
        for place, name in enumerate(peers):
            values = row[name].values
            panel.plot([place] * len(values), values, "o", color="black", markersize=3, alpha=0.5)
        better = "less is better" if metric.lower_is_better else "more is better"
        panel.set_title(f"{metric.title}\n{metric.unit}, {better}", fontsize=9)
        panel.tick_params(axis="x", labelrotation=30, labelsize=8)
        panel.tick_params(axis="y", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.flat[len(metrics) :]:
        panel.set_visible(False)
    of = results.environment
    figure.suptitle(
        f"l4lb {of['l4lb']} and others in one lab, medians and rounds; "
        f"{of['cpu']}, Linux {of['kernel']}, Python {of['python']}",
        fontsize=9,
    )
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
