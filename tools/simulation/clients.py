"""The clients: requests come at random moments whatever became of those before, over new connections
or over pools of kept ones."""

from __future__ import annotations

from array import array
from random import Random
from typing import Final

from simulation.events import Events
from simulation.gateway import Gateway
from simulation.scenes import Scene
from simulation.servers import Job, Server

DELAY: Final = 0.0002  # seconds from client to gateway and from gateway to backend, one way
POOLS: Final = 8  # clients that keep connections, each its own, if nothing else is asked for
ATTEMPTS: Final = 3  # after so many a client goes away
RETRY: Final = 0.05  # seconds a client waits before it tries again after a failure
LONGEST: Final = 10.0  # seconds after the last one has come until who still waits gives up


class Log:
    """What the clients saw."""

    def __init__(self) -> None:
        self.began = array("d")  # of each request: when the client wanted it
        self.latency = array("d")  # how long it waited for its answer, or in vain, all attempts together
        self.asked = array("d")  # of each attempt: when
        self.asked_of = array("i")  # and which backend
        self.failed = array("d")  # of each attempt without an answer: when it ended
        self.lost = 0  # requests that were never answered


class Connection:
    """A client's connection with a backend, and the request on it."""

    __slots__ = ("alive", "backend", "began", "busy", "served", "since", "tries", "work")

    def __init__(self, since: float, work: float, tries: int) -> None:
        self.backend = -1
        self.alive = True
        self.busy = False
        self.served = 0
        self.since = since  # when the client wanted what it asks for now
        self.began = 0.0  # when the gateway saw the first packet of that
        self.work = work
        self.tries = tries


class Clients:
    """All clients of the service."""

    def __init__(
        self,
        scene: Scene,
        rate: float,
        seconds: float,
        events: Events,
        gateway: Gateway,
        servers: list[Server],
        random: Random,
        pools: int = POOLS,
    ) -> None:
        self.log = Log()
        self._scene, self._rate, self._seconds = scene, rate, seconds
        self._events, self._gateway, self._servers = events, gateway, servers
        self._random = random
        self._waiting: dict[Connection, None] = {}
        self._came = 0
        self._pools: list[list[Connection]] = [[] for _ in range(pools)]

    def start(self) -> None:
        """Begin to come."""
        self._events.at(self._random.expovariate(self._rate), self._arrive)

    @property
    def pending(self) -> int:
        """Requests that came and have not ended yet, also between two attempts."""
        return self._came - len(self.log.latency)

    def finish(self) -> Log:
        """The log, with those who still wait: they give up, and have waited in vain for so long."""
        for connection in self._waiting:
            self.log.lost += 1
            self.log.began.append(connection.since)
            self.log.latency.append(self._events.now - connection.since)
        return self.log

    def reset(self, backend: int) -> None:
        """The backend went down: idle connections with it are closed, requests under way fail."""
        for pool in self._pools:
            for connection in pool:
                if connection.backend == backend:
                    connection.alive = False
                    self._gateway.closed(backend)
            pool[:] = [connection for connection in pool if connection.alive]

    def _arrive(self) -> None:
        events, random = self._events, self._random
        if events.now >= self._seconds:
            return  # nobody comes any more; those before get their answers
        events.at(events.now + random.expovariate(self._rate), self._arrive)
        self._came += 1
        self._request(events.now, self._scene.work(random), 1, int(random.random() * len(self._pools)))

    def _request(self, since: float, work: float, tries: int, pool: int) -> None:
        kept = self._pools[pool]
        if kept:
            connection = kept.pop()  # the one used last, as most pools do
            connection.since, connection.work, connection.tries = since, work, tries
            self._waiting[connection] = None
            self._ask(connection, pool)
        else:
            connection = Connection(since, work, tries)
            self._waiting[connection] = None
            self._connect(connection, pool)

    def _connect(self, connection: Connection, pool: int) -> None:
        backend = self._gateway.open()
        if backend is None:
            self._failed(connection, pool)
            return
        connection.backend = backend
        self._events.at(self._events.now + 4 * DELAY, self._connected, connection, pool)

    def _connected(self, connection: Connection, pool: int) -> None:
        if self._servers[connection.backend].up:
            self._gateway.established(connection.backend)
            self._ask(connection, pool)
        else:
            self._gateway.refused(connection.backend)
            self._failed(connection, pool)

    def _ask(self, connection: Connection, pool: int) -> None:
        now, backend = self._events.now, connection.backend
        self._gateway.asked(backend, now)
        self.log.asked.append(now)
        self.log.asked_of.append(backend)
        connection.began = now
        connection.busy = True

        def done() -> None:
            self._answer(connection, now, pool)

        def lost() -> None:
            self._abort(connection, now, pool, True)

        self._servers[backend].take(Job(connection.work, done, lost))
        if self._scene.patience is not None:
            self._events.at(now + self._scene.patience, self._abort, connection, now, pool, False)

    def _answer(self, connection: Connection, began: float, pool: int) -> None:
        if not (connection.busy and connection.began == began):
            return  # the client has left
        now, backend = self._events.now, connection.backend
        connection.busy = False
        del self._waiting[connection]
        self._gateway.answered(backend, began, now + 2 * DELAY)
        self.log.began.append(connection.since)
        self.log.latency.append(now + 4 * DELAY - connection.since)
        connection.served += 1
        if connection.served < self._scene.requests_per_connection:
            self._pools[pool].append(connection)
        else:
            self._gateway.closed(backend)

    def _abort(self, connection: Connection, began: float, pool: int, by_backend: bool) -> None:
        if connection.busy and connection.began == began:
            self._gateway.aborted(connection.backend, began, by_backend=by_backend)
            self._failed(connection, pool)

    def _failed(self, connection: Connection, pool: int) -> None:
        connection.busy = connection.alive = False
        del self._waiting[connection]
        self.log.failed.append(self._events.now)
        if connection.tries == ATTEMPTS:
            self.log.lost += 1
            self.log.began.append(connection.since)
            self.log.latency.append(self._events.now - connection.since)
            return
        again = connection.since, connection.work, connection.tries + 1, pool
        self._events.at(self._events.now + RETRY, self._request, *again)
