"""What happens to the servers while clients ask them: a scene is a list of timed actions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from benchmark.latency.workload import WARM_UP, Clients

SERVERS: Final = 5
WORKERS: Final = 4
"""Requests that a server serves at a time; others wait in line."""

VICTIM: Final = 2
"""The server that something happens to, counted from 0: neither the first nor the last in a config."""

NEW_CONNECTIONS: Final = Clients()
"""A connection for each request, and patience for whatever comes."""

_SLOW, _ANTAGONIST, _STALLED, _USUAL = 0.1, 0.2, 0.0, 1.0  # speeds
_BURST: Final = 2.0  # seconds
_KEPT: Final = 100  # requests of a connection that is kept


@dataclass(frozen=True, slots=True)
class Action:
    """From ``at`` on (seconds; from 0 on requests count) a server has this speed; its usual one is 1."""

    at: float
    server: int
    speed: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens, and how clients behave meanwhile.

    Attributes:
        recovers: when the victim is itself again, in seconds; None: this is no scene of recovery.
    """

    name: str
    title: str
    actions: tuple[Action, ...] = ()
    clients: Clients = NEW_CONNECTIONS
    recovers: float | None = None


def _scenes(seconds: float) -> tuple[Scene, ...]:
    slow = Action(-WARM_UP, VICTIM, _SLOW)
    times = [number * _BURST - WARM_UP for number in range(int((seconds + WARM_UP) / _BURST) + 1)]
    bursts = [
        action
        for number, time in enumerate(times)
        for action in (
            Action(time, (number - 1) % SERVERS, _USUAL),
            Action(time, number % SERVERS, _ANTAGONIST),
        )
    ]
    return (
        Scene("alike", "all alike"),
        Scene("slow", "one ten times slower", (slow,)),
        Scene("bursts", "five times slower for two seconds, one after the other", tuple(bursts)),
        Scene(
            "stall",
            "one stalls, its check still passing; clients give up after 1.5 s and come again",
            (Action(seconds / 4, VICTIM, _STALLED),),
            Clients(patience=1.5, tries=3),
        ),
        Scene(
            "recovery",
            "one ten times slower is itself again in the middle",
            (slow, Action(seconds / 2, VICTIM, _USUAL)),
            recovers=seconds / 2,
        ),
    )


def scenes(seconds: float) -> dict[str, Scene]:
    """All scenes, by name, for so many seconds of requests that count."""
    new = _scenes(seconds)
    kept = [
        replace(
            scene,
            name=f"{scene.name}-keepalive",
            title=f"{scene.title}; keep-alive, {_KEPT} requests a connection",
            clients=replace(scene.clients, requests=_KEPT),
        )
        for scene in new
    ]
    return {scene.name: scene for scene in (*new, *kept)}


SCENES: Final = tuple(scenes(0))
"""Their names."""

UNAVAILABLE: Final = {"agents": "l4lb has no agents yet that could tell of a server at 95% CPU"}
"""Scenes that cannot be played yet, and why."""
