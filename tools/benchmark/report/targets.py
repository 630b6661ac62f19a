"""The speed and memory that l4lb is to reach, and whether it did. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmark.figures.statistics import Table
from benchmark.figures.target import Target

# Metric, what it is, datapath, peer, the least ratio.
_RATIOS: Final = (
    ("bulk_download", "bulk TCP, download", "raw", "haproxy", 1.0),
    ("bulk_upload", "bulk TCP, upload", "raw", "haproxy", 1.0),
    ("keepalive", "keep-alive requests", "raw", "haproxy", 0.4),
    ("connections", "new connections", "raw", "haproxy", 0.6),
    ("bulk_1500", "bulk TCP, frames of 1,500 bytes", "tc", "nftables", 1.4),
    ("bulk_upload", "bulk TCP, upload, frames of 64 KB", "tc", "nftables", 1.0),
    ("bulk_download", "bulk TCP, download, frames of 64 KB", "tc", "nftables", 1.0),
    ("keepalive", "keep-alive requests", "tc", "nftables", 1.2),
    ("connections", "new connections", "tc", "nftables", 1.4),
    ("keepalive", "keep-alive requests", "tc", "forwarding", 1.1),
    ("bulk_1500", "bulk TCP, frames of 1,500 bytes", "tc", "forwarding", 1.1),
    ("small_packets", "small packets on one core", "xdp", "nftables", 3.5),
    ("small_packets", "small packets on one core", "xdp", "redirect", 0.8),
)

_PYTHON: Final = (
    ("established_ns", "established path, the slowest kind", "under", 3_000.0, "ns a packet"),
    ("bytes_each", "1M connections, memory", "under", 500.0, "bytes each"),
    ("busy_growth", "1M connections / 1k, fast path, 1,000 of them busy", "at most", 1.5, ""),
    ("fast_path_growth", "1M connections / 1k, fast path, random order", "at most", 1.5, ""),
    ("lookup_growth", "1M connections / 1k, lookup alone, random order", "at most", 1.5, ""),
)

_KERNEL: Final = (
    ("xdp_ns", "xdp alone, established packet, 1,000 flows", "under", 150.0, "ns a packet"),
    ("xdp_backends_growth", "xdp alone, 1,000 backends / 8", "under", 1.2, ""),
    ("xdp_services_growth", "xdp alone, 1,000 services / 1", "under", 1.2, ""),
    ("xdp_flows_growth", "xdp alone, 1M flows / 1k", "under", 3.0, ""),
    ("connection_bytes", "eBPF, memory of an established connection", "under", 160.0, "bytes"),
    ("flood_lost", "SYN flood, connections lost", "at most", 0.0, ""),
    ("flood_throughput", "SYN flood, throughput, with / without", "above", 0.5, ""),
    ("restart_lost", "daemon killed and restarted, connections lost", "at most", 0.0, ""),
)


def targets(ratios: Mapping[str, Table], figures: Mapping[str, float]) -> list[Target]:
    """All targets.

    Args:
        ratios: of each datapath to its peers (``statistics.compared``); empty if not measured.
        figures: all others that have a target, by name; any may be absent.
    """
    rows = []
    for metric, title, datapath, peer, limit in _RATIOS:
        peers = ratios.get(datapath, {}).get(metric, {})
        value = peers[peer].median if peer in peers else None
        rows.append(Target(f"{title}, {datapath} / {peer}", "at least", limit, "", value))
    for name, title, bound, limit, unit in (*_PYTHON, *_KERNEL):
        rows.append(Target(title, bound, limit, unit, figures.get(name)))
    return rows
