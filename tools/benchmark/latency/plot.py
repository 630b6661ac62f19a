"""The runs as panels of a picture: the 99th percentile in every scene, and over time where it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmark.figures.panels import OURS, THEIRS, bars
from benchmark.figures.statistics import spread
from benchmark.figures.tables import number
from benchmark.latency.balancers import BALANCERS
from benchmark.latency.runs import Run
from benchmark.latency.scenes import SCENES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHANGING: Final = ("bursts", "bursts-begun", "stall", "recovery")
_IDLE: Final = ("agents",)  # nobody waits there

# The same in all panels. A bar of a logarithmic scale has no natural foot: this is the mean work of a
# request, with which the servers are idle.
_TICKS: Final = (100, 200, 500, 1_000, 2_000, 5_000, 10_000)


def drawings(runs: Sequence[Run]) -> Iterator[Callable[[Axes], None]]:
    """What draws each panel."""
    played = {scene: [run for run in runs if run.scene == scene] for scene in SCENES}
    for scene, turns in played.items():
        if turns and scene not in _IDLE:
            yield _p99(scene, turns)
    for scene in _CHANGING:
        if played[scene]:
            yield _over_time(scene, played[scene])


def _p99(scene: str, runs: Sequence[Run]) -> Callable[[Axes], None]:
    names = [name for name in BALANCERS if any(run.balancer == name for run in runs)]
    spreads = [spread(run.p99 * 1e3 for run in runs if run.balancer == name) for name in names]
    colours = [OURS if name.startswith("l4lb-") else THEIRS for name in names]

    def draw(panel: Axes) -> None:
        bars(panel, f"{scene}: 99th percentile of latency\nms, less is better", names, spreads, colours)
        _scale(panel)

    return draw


def _over_time(scene: str, runs: Sequence[Run]) -> Callable[[Axes], None]:
    def draw(panel: Axes) -> None:
        for name in BALANCERS:
            points: dict[float, list[float]] = {}
            for run in runs:
                for time, latency in run.curve if run.balancer == name else ():
                    points.setdefault(time, []).append(latency * 1e3)
            if points:
                panel.plot(list(points), [median(it) for it in points.values()], label=name, linewidth=1)
        _scale(panel)
        panel.set_title(
            f"{scene}: 99th percentile of each half second\nms over s, less is better", fontsize=9
        )
        panel.legend(fontsize=5)

    return draw


def _scale(panel: Axes) -> None:
    panel.set_yscale("log")
    panel.minorticks_off()
    panel.set_yticks(_TICKS, [number(tick) for tick in _TICKS])
    panel.set_ylim(_TICKS[0], _TICKS[-1] * 1.2)
