"""What a figure is to reach. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A bound and the figure that was measured; None if it was not."""

    title: str
    bound: str  # "at least" | "at most" | "under" | "above"
    limit: float
    unit: str
    value: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the figure keeps the bound; None if there is no figure."""
        if self.value is None:
            return None
        return {
            "at least": self.value >= self.limit,
            "at most": self.value <= self.limit,
            "under": self.value < self.limit,
            "above": self.value > self.limit,
        }[self.bound]
