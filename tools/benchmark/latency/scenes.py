"""What happens to the servers while clients ask them: a scene is a list of timed actions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
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

BUSY: Final = 0.95
"""CPU of the host of a server that is busy with something else; the others' hosts are idle."""

_SLOW, _ANTAGONIST, _STALLED, _USUAL = 0.1, 0.2, 0.0, 1.0  # speeds
_BURST: Final = 2.0  # seconds
_KEPT: Final = 100  # requests of a connection that is kept
_IDLE: Final = 1 / 6  # of the requests: 20 a second, 10% of what the servers can do


@dataclass(frozen=True, slots=True)
class Action:
    """From ``at`` on (seconds; from 0 on requests count) a server has this speed, and requests that it
    begins have this pace; the usual ones are 1."""

    at: float
    server: int
    speed: float
    pace: float = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens, and how clients behave meanwhile.

    Attributes:
        load: how many requests come, as a part of the usual rate.
        explained: when l4lb is asked to explain what it does, in seconds.
        recovers: when the victim is itself again, in seconds; None: this is no scene of recovery.
        busy: when the CPU of the victim's host becomes busy, in seconds, of which only its agent tells;
            None: nobody has an agent.
    """

    name: str
    title: str
    actions: tuple[Action, ...] = ()
    clients: Clients = NEW_CONNECTIONS
    load: float = 1.0
    explained: float = 0.0
    recovers: float | None = None
    busy: float | None = None


def _bursts(seconds: float, speed: float, pace: float) -> Iterator[Action]:
    """One server after the other."""
    for number in range(int((seconds + WARM_UP) / _BURST) + 1):
        time = number * _BURST - WARM_UP
        yield Action(time, (number - 1) % SERVERS, _USUAL)
        yield Action(time, number % SERVERS, speed, pace)


def _scenes(seconds: float) -> tuple[Scene, ...]:
    """All under load, with new connections."""
    middle = seconds / 2
    slow = Action(-WARM_UP, VICTIM, _SLOW)
    burst = (middle // _BURST + 0.5) * _BURST  # the middle of one
    return (
        Scene("alike", "all alike", explained=middle),
        Scene("slow", "one ten times slower", (slow,), explained=middle),
        Scene(
            "bursts",
            "five times slower for two seconds, one after the other",
            tuple(_bursts(seconds, _ANTAGONIST, _USUAL)),  # somebody takes the CPU
            explained=burst,
        ),
        Scene(
            "bursts-begun",
            "the same, but only requests that begin meanwhile are slow",
            tuple(_bursts(seconds, _USUAL, _ANTAGONIST)),  # or the disk, or the database
            explained=burst,
        ),
        Scene(
            "stall",
            "one stalls, its check still passing; clients give up after 1.5 s and come again",
            (Action(seconds / 4, VICTIM, _STALLED),),
            Clients(patience=1.5, tries=3),
            explained=middle,
        ),
        Scene(
            "recovery",
            "one ten times slower is itself again in the middle",
            (slow, Action(middle, VICTIM, _USUAL)),
            explained=middle + 0.5,
            recovers=middle,
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
    agents = Scene(
        "agents",
        f"an idle pool, one at {BUSY:.0%} CPU, as its agent says",
        load=_IDLE,
        explained=seconds * 3 / 4,
        busy=seconds / 4,
    )
    return {scene.name: scene for scene in (*new, *kept, agents)}


SCENES: Final = tuple(scenes(0))
"""Their names."""
