"""Sends the probes that ``probing`` decides on. Edge: tasks, the clock, what sends.

Everything runs on the event loop that ``Prober.start`` was called on.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final, Protocol

from l4lb.health.budget import Budget
from l4lb.health.probes.result import CannotProbe, Outcome, ProbeKind, ProbeResult
from l4lb.health.probes.senders import Senders
from l4lb.health.probing import LastProbe, Probe, ProbeCounters, Probing
from l4lb.health.rise_fall import Health
from l4lb.health.traffic_age import Freshness, TrafficAge
from l4lb.model import Counters, Endpoint, HealthCheck, Service

log = logging.getLogger(__name__)

LOOK: Final = 1.0
"""Seconds from one look at the datapath's counters to the next, with up to a hundred backends."""

_LONGEST_LOOK: Final = 4.0  # seconds: less than the time for which what traffic has shown is fresh
_LOOK_PER_BACKEND: Final = 0.01
"""Seconds. To tell its counters, the raw datapath leaves its packets for about 40 us a backend: at this
pace, less than half a percent of its time."""

_SHORTEST_PAUSE: Final = 0.02
"""Seconds; at the highest rate what the budget earns in it is less than a burst, so nothing is lost."""

_LATE_PACKETS: Final = 2  # that a late answer makes after its probe was counted: itself and the RST
_REPEATED_PACKETS: Final = 2  # that a repeated one makes: the same, unless the RST is dropped here


class Sender(Protocol):
    """What sends probes: see ``Senders``."""

    @property
    def late(self) -> int:
        """Answers that came too late, since the start."""
        ...

    @property
    def forged(self) -> int:
        """Answers that were forged, since the start."""
        ...

    @property
    def repeated(self) -> int:
        """Answers that came once more, since the start."""
        ...

    async def send(self, kind: ProbeKind, target: Endpoint, check: HealthCheck) -> ProbeResult:
        """Probe once."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


class Prober:
    """Keeps measurements fresh of backends that traffic does not measure."""

    def __init__(
        self,
        counters: Callable[[], Awaitable[Counters | None]],
        health: Callable[[str, Endpoint], Health],
        shunned: Callable[[str, Endpoint], bool],
        budget: Budget,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
        sender: Sender | None = None,
        freshness: Freshness | None = None,
    ) -> None:
        """Nothing is sent until ``start``.

        Args:
            counters: the datapath's; None while there is none.
            health: of a backend of a service given to ``update``.
            shunned: see ``Probing``.
            budget: see ``Probing``; on the same clock.
            clock: seconds, monotonic; that of the times in ``Health``.
            random: spreads the probes; by default seeded by the system.
            sender: sends them.
            freshness: what traffic measures by itself; by default ``TrafficAge``.
        """
        self._problems: dict[tuple[ProbeKind, int], str] = {}  # by kind and IP version
        self._paid = 0  # packets that came after their probes were counted, of those the budget knows
        self._counters = counters
        self._health = health
        self._clock = clock
        self._sender = sender or Senders()
        self._budget = budget
        self._probing = Probing(
            budget,
            random=random or Random(),
            freshness=freshness or TrafficAge(),
            shunned=shunned,
        )
        self._look_at = clock()
        self._look_interval = LOOK
        self._running: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def problem(self) -> str:
        """Why this host can send no probes of some kind, in one line; empty if it can."""
        return next(iter(self._problems.values()), "")

    def start(self) -> None:
        """Begin to send."""
        self._running = asyncio.create_task(self._run())

    def update(self, services: Sequence[Service], *, enabled: bool) -> None:
        """Probe the backends of these services from now on and no others; if not ``enabled``, nobody."""
        backends = sum(len(service.backends) for service in services)
        self._look_interval = min(max(LOOK, _LOOK_PER_BACKEND * backends), _LONGEST_LOOK)
        self._probing.update(services, self._clock(), enabled=enabled)
        for of in self._problems.keys() - self._probing.sorts():
            del self._problems[of]

    def last(self, service: str, backend: Endpoint) -> LastProbe | None:
        """The last probe of a backend that is over; its time is on the clock."""
        return self._probing.last(service, backend)

    def report(self) -> ProbeCounters:
        """What was sent, and what it came to."""
        counted, sender = self._probing.report(self._clock()), self._sender
        packets = counted.packets + self._afterwards()
        return dataclasses.replace(counted, packets=packets, late=sender.late, forged=sender.forged)

    def _afterwards(self) -> int:
        """Packets of probes that were counted already."""
        return _LATE_PACKETS * self._sender.late + _REPEATED_PACKETS * self._sender.repeated

    async def close(self) -> None:
        """Give up what is under way; returns once its sockets are closed."""
        tasks = [*self._tasks, *((self._running,) if self._running else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sender.close()

    async def _run(self) -> None:
        while True:
            try:
                pause = await self._turn()
            except Exception:
                log.exception("probing failed")
                pause = LOOK
            await asyncio.sleep(max(_SHORTEST_PAUSE, pause))

    async def _turn(self) -> float:
        """Send what is to be sent now; seconds until the next turn."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + self._look_interval
            paid, self._paid = self._paid, self._afterwards()
            self._budget.owe(self._paid - paid)
            if (counters := await self._counters()) is not None:
                self._probing.look(counters, self._health, self._clock())
        while (probe := self._probing.next(self._clock())) is not None:
            task = asyncio.create_task(self._send(probe))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        now = self._clock()
        return min(self._look_at - now, self._probing.wait(now))

    async def _send(self, probe: Probe) -> None:
        result = ProbeResult(Outcome.UNSENT, reason="given up")
        problem = ""
        try:
            result = await self._sender.send(probe.kind, probe.target, probe.check)
        except CannotProbe as error:
            problem = f"backends are not probed: {error}"
            result = ProbeResult(Outcome.UNSENT, reason=str(error))
        except Exception as error:
            log.exception("the probe of %s is broken", probe.target)
            result = ProbeResult(Outcome.UNSENT, reason=f"internal error: {error!r}")
        finally:
            self._probing.finish(probe, result, self._clock())
        self._note_problem((probe.kind, probe.target.version), problem)

    def _note_problem(self, of: tuple[ProbeKind, int], problem: str) -> None:
        """A fault of this host is logged when it begins. That one backend has no route is none: the reason
        is with its last probe, and ``host_checks`` tells of it."""
        if not problem:
            self._problems.pop(of, None)
            return
        if of not in self._probing.sorts():
            return  # it was under way when the config changed
        if problem not in self._problems.values():
            log.warning("%s", problem)
        self._problems[of] = problem
