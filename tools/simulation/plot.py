"""The figures as a picture: how long people waited, and what the first backend got."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulation.figures import BIN, Figures
from simulation.scenes import SCENES, onset

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = {
    "round_robin": "#b0b0b0",
    "random": "#d9c77e",
    "least_connection": "#5b8fb9",
    "two_choices": "#7fb285",
    "adaptive": "#d1495b",
    "oracle": "#3d3d3d",
    "late_oracle": "#8d6fab",
}


def draw(results: Mapping[str, Mapping[str, Figures]], seconds: float, file: Path) -> None:
    """A row for each scene: p50, p90 and p99 by policy, and the share of the first backend over time.

    Raises:
        OSError: the file cannot be written.
        ValueError: the ending names no kind of picture.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(len(results), 2, figsize=(11, 2.8 * len(results)), squeeze=False)
    for (scene, of), (waits, shares) in zip(results.items(), rows, strict=True):
        _waits(waits, of)
        waits.set_title(SCENES[scene].title, loc="left", fontsize=9)
        _shares(shares, of)
        if SCENES[scene].worsens or SCENES[scene].recovers:
            shares.axvline(onset(seconds), color="black", linewidth=0.8, linestyle=":")
    for panel in rows.flat:
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    rows[0][0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _waits(panel: Axes, of: Mapping[str, Figures]) -> None:
    width = 0.8 / len(of)
    for place, (policy, it) in enumerate(of.items()):
        values = [1000 * value for value in (it.p50, it.p90, it.p99)]
        panel.bar(
            [x + place * width for x in range(3)], values, width, color=_COLOURS[policy], label=policy
        )
    panel.set_xticks([x + 0.4 - width / 2 for x in range(3)], ["p50", "p90", "p99"])
    panel.set_yscale("log")
    panel.set_ylabel("ms", fontsize=8)


def _shares(panel: Axes, of: Mapping[str, Figures]) -> None:
    for policy, it in of.items():
        moments = [BIN * (bin_ + 1) for bin_ in range(len(it.shares))]
        panel.plot(moments, it.shares, color=_COLOURS[policy], linewidth=1)
    panel.set_ylim(0, 2)
    panel.set_ylabel("share of the first backend", fontsize=8)
    panel.set_xlabel("seconds", fontsize=8)
