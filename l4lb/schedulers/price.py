"""What a backend costs a new connection: the rule of ``l4lb.model.Costs``, in one place for Python."""

from __future__ import annotations

from l4lb.model import WHOLE, Costs

Price = tuple[bool, int]
"""Hot or not, then the price: compared in this order, the least is chosen."""


def price(selection: Costs, index: int, cost: int, *, in_flight: int, idle: int) -> Price:
    """Of the backend with this index and cost, at a moment when it has so many connections in flight and
    idle ones."""
    return index in selection.hot, cost * (WHOLE * (in_flight + 1) + selection.idle * idle)
