"""The speed and memory that l4lb is to reach, and whether it did. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmark.statistics import Table


@dataclass(frozen=True, slots=True)
class Target:
    """A bound and the figure that was measured; None if it was not."""

    title: str
    bound: str  # "at least" | "at most" | "under"
    limit: float
    unit: str
    value: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the figure keeps the bound; None if there is no figure."""
        if self.value is None:
            return None
        if self.bound == "at least":
            return self.value >= self.limit
        return self.value <= self.limit if self.bound == "at most" else self.value < self.limit


_TO_HAPROXY: Final = (
    ("bulk_download", "bulk TCP, download, l4lb / HAProxy", 1.0),
    ("bulk_upload", "bulk TCP, upload, l4lb / HAProxy", 1.0),
    ("keepalive", "keep-alive requests, l4lb / HAProxy", 0.4),
    ("connections", "new connections, l4lb / HAProxy", 0.6),
)


def targets(ratios: Table, micro: Mapping[str, float]) -> list[Target]:
    """All targets.

    Args:
        ratios: of l4lb to its peers (``statistics.compared``); empty if not measured.
        micro: the figures of the micro-benchmark that have a target, by name; any may be absent.
    """
    rows = []
    for metric, title, limit in _TO_HAPROXY:
        peers = ratios.get(metric, {})
        value = peers["haproxy"].median if "haproxy" in peers else None
        rows.append(Target(title, "at least", limit, "", value))
    for name, title, bound, limit, unit in (
        ("established_ns", "established path, the slowest kind", "under", 3_000.0, "ns a packet"),
        ("bytes_each", "1M connections, memory", "under", 500.0, "bytes each"),
        ("busy_growth", "1M connections / 1k, fast path, 1,000 of them busy", "at most", 1.5, ""),
        ("fast_path_growth", "1M connections / 1k, fast path, random order", "at most", 1.5, ""),
        ("lookup_growth", "1M connections / 1k, lookup alone, random order", "at most", 1.5, ""),
    ):
        rows.append(Target(title, bound, limit, unit, micro.get(name)))
    return rows
