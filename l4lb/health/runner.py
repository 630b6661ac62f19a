"""Keep the health of every backend of every service current. Edge: the clock, see ``repeated``.

A *shared check* is one thing that is checked: an address, a port and how. Services that check the same
backend alike share it, and each counts the results with its own rise and fall.

Everything runs on the event loop that ``HealthRunner.update`` was called on; nothing here is for other
threads.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from random import Random
from typing import Final

from l4lb.agent.protocol import Refusal
from l4lb.health.agent_check import check_agent
from l4lb.health.checks import run_check
from l4lb.health.repeated import Repeated
from l4lb.health.rise_fall import Health, HealthState, Outcome, Result, advance, initial
from l4lb.health.schedule import Schedule
from l4lb.model import AgentCheck, BackendKey, Endpoint, HealthCheck, Service

log = logging.getLogger(__name__)

OnChange = Callable[[str, Endpoint, Health], None]
"""Called with the service's name, the backend's address and its new health."""

Check = Callable[[Endpoint, HealthCheck], Awaitable[Result]]
"""Checks an address and port once; see ``checks.run_check``."""

CheckAgent = Callable[[Endpoint, HealthCheck, AgentCheck], Awaitable[Result]]
"""The same by asking the agent there; see ``agent_check.check_agent``."""

_LATE: Final = 1.0  # intervals by which the first of the waiting checks is late before it is logged
_LATE_PAUSE: Final = 60.0  # seconds until that is said again

_SOON: Final = 0.1  # seconds until a backend is checked that was down before: it may be back

_AT_ONCE: Final = 64  # checks under way, at least
_SPARE: Final = 2  # times what backends that are all silent take
_DESCRIPTORS: Final = 4
"""One of so many file descriptors may be a check's: probes and the datapath need theirs."""


def at_once(checks: Iterable[HealthCheck]) -> int:
    """How many of these checks may be under way at once. A backend that does not answer holds a place for
    the whole timeout; when all fall silent, all are still to be checked at their intervals."""
    silent = sum(min(1.0, check.timeout / check.interval) for check in checks)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _DESCRIPTORS
    return max(_AT_ONCE, min(ceil(_SPARE * silent), most))


@dataclass(frozen=True, slots=True)
class _CheckKey:
    """What makes two checks the same check."""

    target: Endpoint
    check: HealthCheck  # what the result depends on; all else is as by default
    agent: AgentCheck | None = None  # whom to ask, if the check is to ask an agent

    @classmethod
    def of(cls, backend: Endpoint, service: Service) -> _CheckKey:
        check = service.health
        if check.check == "agent" and service.agent is not None:
            seen = HealthCheck(check.check, check.interval, check.timeout)
            return cls(Endpoint(backend.ip, service.agent.port), seen, service.agent)
        target = backend if check.port is None else Endpoint(backend.ip, check.port)
        seen = HealthCheck(check.check, check.interval, check.timeout)
        if check.check == "http":
            seen = replace(seen, path=check.path, host=check.host, status=check.status)
        return cls(target, seen)

    @property
    def fingerprint(self) -> str:
        """A short text that is another one for another check."""
        return hashlib.blake2b(repr(self).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Down:
    """A backend that is down, as the daemon that comes after is told."""

    check: str  # which one has shown it; another check may find it well
    since: float  # seconds, the clock of the runner
    reason: str


@dataclass(slots=True, eq=False)
class _Member:
    """A backend of a service, and what is known of it."""

    service: str
    backend: Endpoint
    check: HealthCheck
    shared: _CheckKey | None  # None: not checked
    health: Health


@dataclass(slots=True, eq=False)
class _SharedCheck:
    """A check that is made again and again, and the members it is made for.

    Compared by identity: one that is removed and one that replaces it are two.
    """

    key: _CheckKey
    members: tuple[_Member, ...] = ()
    broken: bool = False  # the check itself has raised; said in the log once


class HealthRunner:
    """Runs the health checks of all services and tells of transitions."""

    def __init__(
        self,
        on_change: OnChange,
        clock: Callable[[], float] = time.monotonic,
        *,
        max_at_once: int | None = None,
        random: Random | None = None,
        check: Check = run_check,
        check_agent: CheckAgent | None = None,
    ) -> None:
        """Begin with no services.

        Args:
            on_change: called when a check has changed the state of a backend, or whether it is usable, from
                the event loop. Not called from within ``update``, and must not call it.
            clock: seconds, monotonic; the times in ``Health`` are on it.
            max_at_once: how many checks may be under way; by default what ``at_once`` says of them.
            random: spreads the checks; by default seeded by the system.
            check: makes one check by tcp or http.
            check_agent: makes one by asking an agent; by default over the network.
        """
        self._on_change = on_change
        self._clock = clock
        self._check = check
        self._check_agent = check_agent or self._check_agent_by_network
        self._max_at_once = max_at_once
        self._schedule: Schedule[_SharedCheck] = Schedule(random or Random(), max_at_once or _AT_ONCE)
        self._checks: Repeated[_SharedCheck, Result] = Repeated(
            self._schedule, clock, due=self._due, start=self._made, over=self._over
        )
        self._members: dict[BackendKey, _Member] = {}
        self._shared: dict[_CheckKey, _SharedCheck] = {}
        self._before: Mapping[BackendKey, Down] = {}  # until the first update
        self._late_again = float("-inf")
        self.made = 0  # checks, since the start
        self.packets = 0  # that they caused, in both directions
        self.refused: Final = Counter[Refusal]()  # packets that are no answer of an agent

    def begin_with(self, downs: Mapping[BackendKey, Down]) -> None:
        """Before the first update: these were down when a daemon before ended. Those of them that are
        configured, and are checked as then, begin so, and are checked first."""
        self._before = downs

    def downs(self) -> dict[BackendKey, Down]:
        """The backends that are down now, for ``begin_with``."""
        return {
            target: Down(member.shared.fingerprint, member.health.since, member.health.reason)
            for target, member in self._members.items()
            if member.shared is not None and member.health.state is HealthState.DOWN
        }

    def update(self, services: Sequence[Service]) -> None:
        """Check the backends of these services from now on and no others.

        A backend that stays keeps its health; if its check changed, the new one is made within one new
        interval and a check under way is dropped. A new backend has the health that the same check has
        shown to another service, or to the service that had another name, or what ``begin_with`` says.
        Otherwise it is unknown, hence usable, until its first check, at most one interval from now. With
        ``check = "none"`` it is up.
        """
        now = self._clock()
        known = self._known()
        members = {
            (service.name, backend.address): self._member(service, backend.address, known, now)
            for service in services
            for backend in service.backends
        }
        wanted: dict[_CheckKey, list[_Member]] = {}
        for member in members.values():
            if member.shared is not None:
                wanted.setdefault(member.shared, []).append(member)

        self._members, self._before = members, {}
        for key in self._shared.keys() - wanted.keys():
            self._drop(self._shared.pop(key))
        for key, sharers in wanted.items():
            if key not in self._shared:
                self._shared[key] = _SharedCheck(key)
                down = any(sharer.health.state is HealthState.DOWN for sharer in sharers)
                within = _SOON if down else inf
                self._schedule.add(self._shared[key], key.check.interval, now, within)
            self._shared[key].members = tuple(sharers)
        if self._max_at_once is None:
            self._schedule.allow(at_once(key.check for key in wanted))
        self._checks.go_on()

    def state(self, service_name: str, backend: Endpoint) -> Health:
        """What is known of a backend of a service now.

        Raises:
            KeyError: the last ``update`` had no such service or backend.
        """
        return self._members[service_name, backend].health

    async def close(self) -> None:
        """Stop all checks; returns once their sockets are closed."""
        self.update(())
        await self._checks.wait()

    def _known(self) -> dict[_CheckKey, Health]:
        """What the checks have shown. Where some members count it as down and others do not, it is down: a
        backend too few is safer than a dead one."""
        known: dict[_CheckKey, Health] = {}
        for member in self._members.values():
            if member.shared is not None and (member.shared not in known or not member.health.usable):
                known[member.shared] = member.health
        return known

    def _member(
        self, service: Service, backend: Endpoint, known: Mapping[_CheckKey, Health], now: float
    ) -> _Member:
        check = service.health
        shared = None if check.check == "none" else _CheckKey.of(backend, service)
        target = (service.name, backend)
        old = self._members.get(target)
        if old is not None and old.shared == shared:
            health = old.health
        elif shared is None:
            health = Health(HealthState.UP, now, "not checked")
        elif old is None or old.shared is None or old.health.state is HealthState.UNKNOWN:
            health = self._left_down(target, shared, now) or known.get(shared) or initial(now)
        else:
            # What the old check said of the backend stands, but it does not count towards the new one.
            health = replace(old.health, streak=0)
        return _Member(service.name, backend, check, shared, health)

    def _left_down(self, target: BackendKey, shared: _CheckKey, now: float) -> Health | None:
        """What a daemon before knew against a backend."""
        before = self._before.get(target)
        if before is None or before.check != shared.fingerprint:
            return None
        return Health(HealthState.DOWN, min(before.since, now), before.reason)

    def _drop(self, shared: _SharedCheck) -> None:
        shared.members = ()
        self._checks.drop(shared)

    def _due(self, now: float) -> list[_SharedCheck]:
        due = self._schedule.start_due(now)
        self._watch_lateness(now)  # of those that may not start yet
        return due

    def _made(self, shared: _SharedCheck) -> Awaitable[Result]:
        key = shared.key
        if key.agent is not None:
            return self._check_agent(key.target, key.check, key.agent)
        return self._check(key.target, key.check)

    async def _check_agent_by_network(
        self, target: Endpoint, check: HealthCheck, agent: AgentCheck
    ) -> Result:
        return await check_agent(target, check, agent, self.refused)

    def _over(self, shared: _SharedCheck, task: asyncio.Future[Result], now: float) -> None:
        result = self._result(shared, task)
        self.made += 1
        self.packets += result.packets
        self._record(shared, result, now)

    def _result(self, shared: _SharedCheck, task: asyncio.Future[Result]) -> Result:
        error = task.exception()
        if error is None:
            return task.result()
        if not shared.broken:
            shared.broken = True
            log.error("the health check of %s is broken", shared.key.target, exc_info=error)
        return Result(Outcome.UNDECIDED, f"internal error: {error!r}")

    def _record(self, shared: _SharedCheck, result: Result, now: float) -> None:
        before = [(member, member.health) for member in shared.members]
        for member, _ in before:
            check = member.check
            member.health = advance(member.health, result, rise=check.rise, fall=check.fall, now=now)
        # Told only when all is recorded: whoever is told may ask for the state of the other members.
        for member, health in before:
            if (member.health.state, member.health.usable) != (health.state, health.usable):
                try:
                    self._on_change(member.service, member.backend, member.health)
                except Exception:
                    log.exception("telling of the health of %s (%s) failed", member.backend, member.service)

    def _watch_lateness(self, now: float) -> None:
        """Say in the log that the checks have fallen behind, if they have, once in a while."""
        if now >= self._late_again and self._schedule.lateness(now) > _LATE:
            self._late_again = now + _LATE_PAUSE
            log.warning(
                "health checks are more than an interval late: too many backends that do not answer;"
                " shorten the timeout, lengthen the interval or allow more open files (ulimit -n)"
            )
