"""Averages over time of what is sampled now and then. Pure: time is an argument."""

from __future__ import annotations

import math


class Damped:
    """An exponentially weighted moving average that knows how long ago the last sample was.

    Of a step, it shows 63% after one time constant and 95% after three, however often it is sampled.
    """

    def __init__(self, time_constant: float) -> None:
        """``time_constant`` in seconds, above 0."""
        self._time_constant = time_constant
        self._value: float | None = None
        self._when = 0.0

    @property
    def value(self) -> float | None:
        """The average; None before the first sample."""
        return self._value

    def add(self, sample: float, now: float) -> float:
        """One more sample, and the average with it. The first one is believed at once.

        A clock that went back counts as one that stood still.
        """
        if self._value is None:
            self._value = sample
        else:
            kept = math.exp(-max(0.0, now - self._when) / self._time_constant)
            self._value = kept * self._value + (1 - kept) * sample
        self._when = now
        return self._value


class BusyShare:
    """The busy share of the CPUs, from the seconds that they have counted since boot."""

    def __init__(self, time_constant: float) -> None:
        """``time_constant`` of the average, in seconds."""
        self._average = Damped(time_constant)
        self._before: tuple[float, float] | None = None

    def add(self, busy: float, total: float, now: float) -> float | None:
        """The average share, 0..1; None until there are two samples to compare.

        Args:
            busy: CPU seconds spent working, of all CPUs.
            total: CPU seconds of any kind. Where they do not advance, as after a migration or a
                suspension of the machine, the sample says nothing.
            now: the moment, in seconds.
        """
        before, self._before = self._before, (busy, total)
        if before is not None and (elapsed := total - before[1]) > 0:
            self._average.add(min(1.0, max(0.0, (busy - before[0]) / elapsed)), now)
        return self._average.value
