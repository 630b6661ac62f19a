"""Keeps a datapath running with the latest plan: one that dies is started again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from l4lb.backoff import Backoff
from l4lb.datapath.base import Datapath, DatapathError
from l4lb.model import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Work:
    interfaces: tuple[str, ...] = ()
    plan: Plan = field(default_factory=Plan)


class DatapathSupervisor:
    """The datapath as the rest of the control plane sees it, whichever instance is running."""

    def __init__(
        self,
        make: Callable[[], Datapath],
        backoff: Backoff | None = None,
        *,
        code_has_changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """Nothing runs until ``start``.

        Args:
            make: gives a new datapath that was not attached yet.
            backoff: between restarts.
            code_has_changed: whether a datapath that begins now would be of other code than this.
        """
        self._make = make
        self._code_has_changed = code_has_changed
        self._outdated = asyncio.Event()
        self._backoff = backoff or Backoff()
        self._datapath: Datapath  # from start on
        self._wanted = _Work()
        self._done: _Work | None = None  # None: who knows what of it
        self._failure: str | None = None
        self._took_over: bool | None = None
        self._began = 0.0
        self._watcher: asyncio.Task[None] | None = None
        # A restart and an update must not talk to a new datapath at the same time.
        self._lock = asyncio.Lock()

    @property
    def failure(self) -> str | None:
        """Why no datapath is running, None if one is."""
        return self._failure

    @property
    def took_over(self) -> bool | None:
        """Whether the first datapath had connections to take over; None: none has been made yet."""
        return self._took_over

    @property
    def latest(self) -> Datapath:
        """The datapath that runs or was the last to run; for what it says of itself."""
        return self._datapath

    @property
    def running(self) -> Datapath:
        """The datapath that runs.

        Raises:
            DatapathError: none does at the moment.
        """
        if self._failure is not None:
            raise DatapathError(f"the datapath is not running and is being restarted: {self._failure}")
        return self._datapath

    async def outdated(self) -> None:
        """Return only if the datapath has died and what is installed by now is another l4lb: none that this
        one could talk to can be started."""
        await self._outdated.wait()

    async def answers(self) -> bool:
        """Whether a datapath runs and answers; returns when it does."""
        try:
            await self.running.details()
        except DatapathError:
            return False
        return True

    async def start(self, interfaces: Sequence[str], plan: Plan) -> None:
        """Attach the first datapath and give it its plan; from now on it is kept alive.

        Raises:
            DatapathError: it cannot run here; nothing of it is left behind but the connections that were
                there before.
        """
        self._wanted = _Work(tuple(interfaces), plan)
        self._datapath = self._make()
        self._took_over = self._datapath.took_over
        try:
            await self._bring_up()
        except BaseException:  # being cancelled included
            await self._discard(hold=self._took_over)
            raise
        self._watcher = asyncio.create_task(self._keep_alive())

    async def update(self, interfaces: Sequence[str], plan: Plan) -> None:
        """Make another plan true; while no datapath runs, the next one gets it.

        Raises:
            DatapathError: the datapath did not take it; the next update tries again.
        """
        async with self._lock:
            self._wanted = _Work(tuple(interfaces), plan)
            if self._failure is None:
                await self._catch_up()

    async def close(self, *, hold: bool) -> None:
        """Stop for good, if it was started; see ``Datapath.close``.

        Raises:
            DatapathError: something of it may be left.
        """
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait((self._watcher,))
            await self._datapath.close(hold=hold)

    async def _bring_up(self) -> None:
        self._done = None
        await self._catch_up()
        self._began = asyncio.get_running_loop().time()
        self._failure = None

    async def _catch_up(self) -> None:
        # What failed may have been done in part: going back to what was there before is work, too.
        done, self._done = self._done, None
        if done is None or self._wanted.interfaces != done.interfaces:
            await self._attach()
        if done is None or self._wanted.plan != done.plan:
            await self._datapath.apply(self._wanted.plan)
        self._done = self._wanted

    async def _attach(self) -> None:
        interfaces = self._wanted.interfaces
        await self._datapath.attach(interfaces)
        name = self._datapath.capabilities.name
        log.info("datapath %s takes packets on %s", name, ", ".join(interfaces) or "no interface")

    async def _discard(self, *, hold: bool) -> None:
        try:
            await self._datapath.close(hold=hold)
        except DatapathError as error:
            log.error("the datapath did not stop cleanly: %s", error)

    async def _keep_alive(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._failure = await self._datapath.wait_failed()
            lasted = clock() - self._began
            while self._failure is not None:
                if self._code_has_changed():
                    log.error("the datapath died: %s", self._failure)
                    self._outdated.set()
                    return
                wait = self._backoff.after_run(lasted)
                when = f"in {wait:g} s" if wait else "at once"
                log.error("the datapath died: %s; restarting it %s", self._failure, when)
                await asyncio.sleep(wait)
                lasted = 0.0
                async with self._lock:
                    await self._restart()

    async def _restart(self) -> None:
        try:
            # Held, as for a restart of the daemon: the host's stack must not answer in between.
            await self._discard(hold=True)
            self._datapath = self._make()
            await self._bring_up()
        except DatapathError as error:
            self._failure = str(error)
        except Exception as error:
            # A bug, but not one to leave the gateway without a datapath for.
            log.exception("the datapath could not be restarted")
            self._failure = repr(error)
        else:
            log.warning("the datapath runs again")
