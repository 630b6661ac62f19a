"""The CPU that the agents of the benchmark find, read as they read it."""

import pytest

from benchmark.latency.agents import stat_line
from benchmark.latency.scenes import BUSY
from l4lb.agent import meter
from l4lb.agent.meter import Meter


def seen(times: list[tuple[float, float]], tmp_path, monkeypatch) -> float | None:
    """The CPU that an agent shows after it has looked at these times up and busy."""
    monkeypatch.setattr(meter.psutil, "PROCFS_PATH", str(tmp_path))
    measuring = Meter(0.1)
    cpu = None
    for up, busy in times:
        (tmp_path / "stat").write_bytes(stat_line(up, busy))
        cpu = measuring.measure(up).cpu
    return cpu


def test_an_idle_host_is_idle_and_a_busy_one_is_busy(tmp_path, monkeypatch):
    idle = [(number / 10, number / 10 - 5) for number in range(50)]
    busy = [(5 + number / 10, number / 10) for number in range(21)]
    assert seen(idle, tmp_path, monkeypatch) == 0
    assert seen([*idle, *busy], tmp_path, monkeypatch) == pytest.approx(BUSY, abs=0.02)


def test_all_lines_are_of_one_length():
    assert len({len(stat_line(up, up - 10)) for up in (0.0, 9.0, 11.0, 1e6)}) == 1
