"""Serves ``/metrics`` over HTTP. Edge: a TCP socket.

Nothing can be changed through it and no client is named, so there is no authentication: who can reach
the address can read it. It is loopback unless the config names another one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from l4lb.client_errors import log_sparingly
from l4lb.metrics.exposition import families
from l4lb.metrics.snapshot import Snapshot
from l4lb.model import Metrics
from l4lb.os_errors import in_words

log = logging.getLogger(__name__)

_LAST_ANSWERS: Final = 1.0
"""Seconds that requests under way get to finish when the address changes."""


_REST: Final = 4
"""For so many times as long as it took, a snapshot is answered from, and what was written of it: reading
all counters keeps the packets of ``raw`` waiting, writing takes longer still, and anybody who reaches the
address may ask as often as they like."""

_OPENMETRICS_TYPE: Final = "application/openmetrics-text"
_OPENMETRICS: Final = choose_encoder(f"{_OPENMETRICS_TYPE}; version=1.0.0")
_PLAIN: Final = choose_encoder("")
"""How it is written down, and the content type of that: these two, whatever version was asked for. Of each
version a body would be kept, and the client names it."""

_KEPT_OPEN: Final = 15.0
"""Seconds that a connection stays for the next request: as long as Prometheus usually waits with it."""

MOST_CONNECTIONS: Final = 32
"""At once: each holds a file descriptor, of which checks and probes need theirs."""


class MetricsServer:
    """Listens where the config says."""

    def __init__(
        self, snapshot: Callable[[], Awaitable[Snapshot]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is open until ``follow``. Taking ``snapshot`` and writing it down get a fifth of the time
        at most; ``clock`` is in seconds."""
        self.problem = ""  # why it does not listen, in one line
        self._snapshot = snapshot
        self._clock = clock
        self._last: Snapshot | None = None
        self._bodies: dict[str, bytes] = {}  # what is written of it, by content type
        self._taken = 0.0  # when it began to be taken
        self._took = 0.0  # seconds, for it and what is written of it
        self._settings = Metrics(enabled=False)
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._one_at_a_time = asyncio.Lock()

    async def follow(self, settings: Metrics) -> None:
        """Listen as these settings say. A port that cannot be had is a problem that is told, and is tried
        again with the next call; the balancer goes on without metrics."""
        if settings == self._settings and (self._runner is not None or not settings.enabled):
            return
        known = self.problem
        await self.close()
        self._settings = settings
        if not settings.enabled:
            return
        log_sparingly()
        application = web.Application()
        application.router.add_get("/metrics", self._answer)
        runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=_LAST_ANSWERS, keepalive_timeout=_KEPT_OPEN
        )
        await runner.setup()
        address = settings.address
        try:
            listener = await asyncio.get_running_loop().create_server(
                partial(_connection, runner), address.host, address.port
            )
        except OSError as error:
            await runner.cleanup()
            reason = in_words(error)
            if isinstance(error, PermissionError):
                reason += " (CAP_NET_BIND_SERVICE is given up: take a port from 1024 on)"
            problem = f"no metrics: {address} cannot be listened on: {reason}; see gateway.metrics.address"
            if problem != known:
                log.warning("%s", problem)
            self.problem = problem
            return
        self._runner, self._listener = runner, listener
        log.info("metrics are at http://%s/metrics", address)

    async def close(self) -> None:
        """Listen no more."""
        self.problem = ""
        runner, self._runner = self._runner, None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            _, asked = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):  # a version that is none
            asked = ""
        encode, kind = _OPENMETRICS if asked.startswith(_OPENMETRICS_TYPE) else _PLAIN
        async with self._one_at_a_time:
            begun = self._clock()
            # From when it was taken, so that one who has it written down late does not keep it for long.
            if self._last is None or begun >= self._taken + (1 + _REST) * self._took:
                self._last, self._taken, self._took = await self._snapshot(), begun, 0.0
                self._bodies.clear()
            if kind not in self._bodies:
                registry = CollectorRegistry()
                registry.register(_Once(self._last))
                ProcessCollector(registry=registry)
                # In a thread: of a thousand backends it takes longer than packets may wait for the loop.
                self._bodies[kind] = await asyncio.to_thread(encode, registry)
                self._took += self._clock() - begun
            body = self._bodies[kind]
        return web.Response(body=body, headers={"Content-Type": kind})


def _connection(runner: web.AppRunner) -> asyncio.Protocol:
    """What answers on a new connection. If there are too many, those that are open for longest end: who
    holds connections, and asks nothing or reads nothing, locks nobody out."""
    server = runner.server
    assert server is not None  # until ``cleanup``, before which the listener is closed
    for oldest in server.connections[: max(0, len(server.connections) - MOST_CONNECTIONS + 1)]:
        if (transport := oldest.transport) is not None:
            oldest.force_close()
            transport.abort()  # closing it would wait until its answer is read
    return server()


class _Once(Collector):
    """What prometheus-client reads families from."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        yield from families(self._snapshot)
