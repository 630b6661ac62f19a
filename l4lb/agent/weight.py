"""From a backend's figures to the weight that it tells HAProxy. Pure.

The weight is the room that is left, as a share of the configured weight, where there is least of it:

    figure        room
    cpu           1 - cpu
    application   1 - application
    queue         1 - queue
    memory        all up to 0.8, then down to none at 1

Memory does not serve requests: three quarters of it in use slows nobody, so it counts only when it runs
out. Load is left out: it counts what waits for disks too, and says over a minute what ``cpu`` says now.
"""

from __future__ import annotations

from typing import Final

from l4lb.agent.report import Figures

LEAST: Final = 0.01
"""A busy server keeps 1%: HAProxy takes 0% for a drain, and servers that all are busy must go on."""

_MEMORY_IS_SHORT: Final = 0.8


def weight(figures: Figures) -> float:
    """Between LEAST and 1; 1 if nothing is known."""
    rooms = [1 - busy for busy in (figures.cpu, figures.application, figures.queue) if busy is not None]
    if figures.memory is not None:
        rooms.append((1 - figures.memory) / (1 - _MEMORY_IS_SHORT))
    return max(LEAST, min([1.0, *rooms]))
