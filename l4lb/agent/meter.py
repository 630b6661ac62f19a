"""Measures a backend. Edge: psutil, netlink, files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from l4lb.agent import listen_queues
from l4lb.agent.application import read_figure
from l4lb.agent.damping import BusyShare, Damped
from l4lb.agent.report import Figures

log = logging.getLogger(__name__)

_AVERAGED: Final = 2.0
"""Time constant of the averages, in intervals: a single sample moves them by 39%, so that one busy moment
is not taken for load; after three intervals they show 78% of a lasting change."""


class Meter:
    """Takes a backend's figures, once an interval. What cannot be had is left out, and that is logged."""

    def __init__(self, interval: float, application: Path | None = None, max_age: float = 10.0) -> None:
        """Begin.

        Args:
            interval: seconds between two calls of ``measure``.
            application: the file with the application's own figure.
            max_age: seconds after which that file is too old.
        """
        self._cpu = BusyShare(_AVERAGED * interval)
        self._queue = Damped(_AVERAGED * interval)
        self._application = application
        self._max_age = max_age
        self._missing: dict[str, str] = {}

    def measure(self, now: float) -> Figures:
        """The figures at this moment; ``now`` in seconds on a monotonic clock."""
        application = self._application
        return Figures(
            cpu=self._try("CPU", lambda: self._cpu.add(*_cpu_seconds(), now)),
            memory=self._try("memory", _memory_used),
            load=self._try("load", _load),
            queue=self._try("accept queues", lambda: self._queue.add(listen_queues.fullest(), now)),
            application=None
            if application is None
            else self._try("application", lambda: read_figure(application, self._max_age)),
        )

    def _try(self, name: str, measure: Callable[[], float | None]) -> float | None:
        try:
            value = measure()
        except (OSError, ValueError) as error:
            if self._missing.get(name) != str(error):
                self._missing[name] = str(error)
                log.warning("%s: unknown: %s", name, error)
            return None
        if self._missing.pop(name, None) is not None:
            log.info("%s: known again", name)
        return value


def _cpu_seconds() -> tuple[float, float]:
    """Busy and all CPU seconds since boot. Guests are counted as user time too (proc_stat(5));
    stolen time is busy: the backend has not got it."""
    times = psutil.cpu_times()
    total = sum(times) - times.guest - times.guest_nice
    return total - times.idle - times.iowait, total


def _memory_used() -> float:
    """What is not available to programs (MemAvailable of proc_meminfo(5)): caches are."""
    memory = psutil.virtual_memory()
    return 1 - float(memory.available) / float(memory.total)


def _load() -> float:
    return float(psutil.getloadavg()[0]) / (psutil.cpu_count() or 1)
