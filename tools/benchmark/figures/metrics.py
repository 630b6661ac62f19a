"""What is measured, under which load, in which unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure that a load gives."""

    name: str
    title: str
    unit: str
    load: str
    digits: int = 0  # behind the point, for people
    lower_is_better: bool = False
    drawn: bool = True


METRICS: Final = (
    Metric("bulk_download", "bulk TCP, download", "Gbit/s", "bulk_download", digits=2),
    Metric("bulk_upload", "bulk TCP, upload", "Gbit/s", "bulk_upload", digits=2),
    Metric("bulk_1500", "bulk TCP, frames of 1,500 bytes", "Gbit/s", "bulk_1500", digits=2),
    Metric("keepalive", "keep-alive requests", "requests/s", "keepalive"),
    Metric("keepalive_p50", "keep-alive latency, median (wrk)", "µs", "keepalive", lower_is_better=True),
    Metric("keepalive_p99", "keep-alive latency, 99% (wrk)", "µs", "keepalive", lower_is_better=True),
    Metric("connections", "new connections, one request each", "connections/s", "connections"),
    Metric("small_packets", "packets of 66 bytes on one core", "packets/s", "small_packets"),
    Metric(
        "small_packets_lost",
        "of them lost",
        "%",
        "small_packets",
        digits=2,
        lower_is_better=True,
        drawn=False,
    ),
    Metric("opened", "TCP connections opened on one core", "connections/s", "small_packets"),
    Metric("ping_pong_p50", "one request at a time, median (wrk)", "µs", "ping_pong", lower_is_better=True),
    Metric("ping_pong_p99", "one request at a time, 99% (wrk)", "µs", "ping_pong", lower_is_better=True),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one load gave in one turn of one balancer."""

    round: int  # from 1
    peer: str
    load: str
    values: dict[str, float]  # by metric; empty if the load failed
    errors: dict[str, int]  # what went wrong -> how often; empty in a valid run
    retransmits: int | None  # of the sender, bulk only
    load_average: float  # of the machine, one minute, when the load began
