"""How one panel of a picture looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from benchmark.figures.statistics import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS: Final = "#d1495b"
THEIRS: Final = "#5b8fb9"
LIMIT: Final = "#b0b0b0"
"""Colours of l4lb, of its peers, and of what no balancer can exceed."""


def bars(
    panel: Axes, title: str, names: Sequence[str], spreads: Sequence[Spread], colours: Sequence[str]
) -> None:
    """A bar for each name, as high as its median, with a dot for each round."""
    panel.bar(names, [bar.median for bar in spreads], color=list(colours), width=0.7)
    for place, bar in enumerate(spreads):
        panel.plot([place] * len(bar.values), bar.values, "o", color="black", markersize=3, alpha=0.5)
    panel.set_title(title, fontsize=9)
