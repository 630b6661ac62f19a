"""One run: a scene, a policy, a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from l4lb.control.adaptation import LOOK
from l4lb.model import Endpoint
from l4lb.schedulers import Candidate
from simulation.clients import LONGEST, POOLS, Clients, Log
from simulation.events import Events
from simulation.gateway import Gateway
from simulation.policies import Policy
from simulation.scenes import LOAD, SERVICE, WORKERS, Event, Scene
from simulation.servers import Server


class Simulation:
    """Servers, a gateway in front of them, and clients. The clients and their work are the same for
    every policy under one seed."""

    def __init__(
        self, scene: Scene, policy: Policy, backends: int, seconds: float, seed: int, pools: int = POOLS
    ) -> None:
        self._events = Events()
        self._policy = policy
        self._servers = [Server(self._events, WORKERS, preempted=scene.preempted) for _ in range(backends)]
        self._gateway = Gateway(backends, Random(f"{seed} gateway"))
        self._candidates = [
            Candidate(index, Endpoint(index.to_bytes(4, "big"), 80), 1) for index in range(backends)
        ]
        self._down: set[int] = set()  # as far as the health checks know
        rate = LOAD * backends * WORKERS / SERVICE
        self._clients = Clients(
            scene,
            rate,
            seconds,
            self._events,
            self._gateway,
            self._servers,
            Random(f"{seed} clients"),
            pools,
        )
        for event in scene.events(backends, seconds):
            self._events.at(event.at, self._happen, event)
        self._select()
        self._clients.start()
        if policy.watches:
            self._events.at(LOOK, self._look)

    def run(self, seconds: float, progress: Callable[[float], None]) -> Log:
        """Let clients come for so many seconds, telling how much of it has passed at every step; then wait
        for the answers to those who have come."""
        steps = 20
        for step in range(steps):
            self._events.run(seconds * (step + 1) / steps)
            progress(seconds / steps)
        while self._clients.pending and self._events.now < seconds + LONGEST:
            self._events.run(self._events.now + LOOK)
        return self._clients.finish()

    def _select(self) -> None:
        able: Sequence[Candidate] = [it for it in self._candidates if it.index not in self._down]
        self._gateway.apply(self._policy.select(able, self._events.now))

    def _look(self) -> None:
        now = self._events.now
        measured = {it.index: self._gateway.look(it.index, now) for it in self._candidates}
        self._policy.observe(measured, now)
        self._select()
        self._events.at(now + LOOK, self._look)

    def _happen(self, event: Event) -> None:
        server = self._servers[event.backend]
        if event.speed is None:
            self._clients.reset(event.backend)
            server.stop()
        else:
            server.start()
            server.set_speed(event.speed)
        if self._policy.told_after is not None:
            told = self._events.now + self._policy.told_after
            self._events.at(told, self._told, event.backend, event.speed)
        if event.known is not None:
            known = self._events.now + event.known
            self._events.at(known, self._checked, event.backend, event.speed is not None)

    def _told(self, backend: int, speed: float | None) -> None:
        self._policy.tell(backend, speed)
        self._select()

    def _checked(self, backend: int, up: bool) -> None:
        if up:
            self._down.discard(backend)
        else:
            self._down.add(backend)
        self._select()
