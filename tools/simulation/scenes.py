"""What happens to the servers while clients come: the scenes of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from math import exp
from random import Random
from typing import Final

SERVICE: Final = 0.1  # seconds, the mean work of a request
WORKERS: Final = 4
LOAD: Final = 0.6
WARM_UP: Final = 5.0  # seconds at the start that are not counted
PATIENCE: Final = 1.5  # seconds after which a client gives up, where it does
BURST: Final = 2.0  # seconds an antagonist stays with a backend


@dataclass(frozen=True, slots=True)
class Event:
    """At a moment a backend's speed changes (0: it stalls), or it goes down (None).

    ``known`` is how many seconds later its health check notices, if it notices at all.
    """

    at: float
    backend: int
    speed: float | None
    known: float | None = None


Work = Callable[[Random], float]
"""Draws how many seconds of work a request is."""


def exponential(random: Random) -> float:
    return random.expovariate(1 / SERVICE)


def lognormal(random: Random) -> float:
    """Sigma 1: the slowest percent takes six times the mean."""
    return random.lognormvariate(0.0, 1.0) * SERVICE / exp(0.5)


def two_kinds(random: Random) -> float:
    """Nine of ten requests are pages of 20 ms, the tenth is a report of 820 ms."""
    return random.expovariate(1 / 0.02) if random.random() < 0.9 else random.expovariate(1 / 0.82)


def _nothing(backends: int, seconds: float) -> Iterator[Event]:
    yield from ()


def _afflicted(backends: int) -> range:
    """Who a scene is about: one of five."""
    return range(max(1, backends // 5))


def _slow(backends: int, seconds: float) -> Iterator[Event]:
    for backend in _afflicted(backends):
        yield Event(0.0, backend, 0.1)


def _bursts(backends: int, seconds: float) -> Iterator[Event]:
    for turn in count():
        begin = turn * BURST
        if begin >= seconds:
            return
        for place in _afflicted(backends):
            backend = (turn * len(_afflicted(backends)) + place) % backends
            yield Event(begin, backend, 0.2)
            yield Event(begin + BURST, backend, 1.0)


def _stall(backends: int, seconds: float) -> Iterator[Event]:
    for backend in _afflicted(backends):
        yield Event(onset(seconds), backend, 0.0)


def _recovery(backends: int, seconds: float) -> Iterator[Event]:
    for backend in _afflicted(backends):
        yield Event(0.0, backend, 0.1)
        yield Event(onset(seconds), backend, 1.0)


def _restart(backends: int, seconds: float) -> Iterator[Event]:
    for backend in _afflicted(backends):
        yield Event(onset(seconds), backend, None, known=4.0)
        yield Event(onset(seconds) + 8.0, backend, 1.0, known=2.0)


def _speeds(backends: int, seconds: float) -> Iterator[Event]:
    for backend in range(backends):
        yield Event(0.0, backend, 0.5 + backend % 5 / 4)


def onset(seconds: float) -> float:
    """When a scene's one change comes."""
    return WARM_UP + (seconds - WARM_UP) / 3


@dataclass(frozen=True, slots=True)
class Scene:
    """One comparison. Arrivals are Poisson, at 60% of what all backends do at speed 1."""

    name: str
    title: str
    events: Callable[[int, float], Iterator[Event]] = _nothing
    work: Work = field(default=exponential)
    patience: float | None = None
    requests_per_connection: int = 1
    preempted: bool = False  # work under way takes on a server's new speed

    @property
    def worsens(self) -> bool:
        """True if the first backend is well until the onset and not afterwards."""
        return self.events in (_stall, _restart)

    @property
    def recovers(self) -> bool:
        """True if the first backend is well from the onset on and was not before."""
        return self.events is _recovery


KEEP_ALIVE: Final = 100  # requests a connection

_PLAIN: Final = (
    Scene("alike", "all alike"),
    Scene("slow", "one ten times slower", _slow),
    Scene("bursts", "bursts, five times slower, wandering", _bursts, preempted=True),
    Scene("bursts-begun", "bursts that slow only work that begins in them", _bursts),
    Scene("stall", "one stalls", _stall, patience=PATIENCE),
    Scene("recovery", "a slow one recovers", _recovery),
)

SCENES: Final = {
    scene.name: scene
    for scene in (
        *_PLAIN,
        *(
            replace(
                it,
                name=f"{it.name}-keep",
                title=f"{it.title}, keep-alive",
                requests_per_connection=KEEP_ALIVE,
            )
            for it in _PLAIN
        ),
        Scene("restart", "one restarts", _restart),
        Scene("speeds", "speeds from 0.5 to 1.5", _speeds),
        Scene("lognormal", "all alike, lognormal service", work=lognormal),
        Scene("kinds", "all alike, two kinds of requests", work=two_kinds),
        Scene("kinds-slow", "two kinds of requests, one ten times slower", _slow, work=two_kinds),
    )
}
