"""The ``raw`` datapath as the control plane sees it: a packet process, a shield, and what they need.

The packet process (worker.py) does the forwarding. This side starts it, tells it what to do, feeds it
the kernel's links, routes and neighbours, and keeps the host's stack away from the packets it takes
(shield.py). Nothing here is on the path of a packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Final

from l4lb.datapath.base import Capabilities, ConnectionFilter, DatapathError
from l4lb.datapath.raw.claim import Claim
from l4lb.datapath.raw.kernel_news import Known
from l4lb.datapath.raw.packet_process import PacketProcess
from l4lb.datapath.raw.shield import Shield
from l4lb.datapath.tasks import Tasks
from l4lb.director.lookup import reweighed
from l4lb.model import (
    BackendKey,
    ConnectionInfo,
    Costs,
    Counters,
    Decision,
    Endpoint,
    Load,
    Plan,
    Recalled,
    ServicePlan,
)
from l4lb.netlink.state import Change, KernelState
from l4lb.netlink.watch import KernelWatch

log = logging.getLogger(__name__)

_LOOK: Final = 5.0
"""Seconds between two looks at whether the shield is there and the packet process answers."""

_REST: Final = 3.0
"""Times as long as the packet process took for news of the kernel until it is told more: its time is the
packets'."""

_REST_AT_LEAST: Final = 0.1
"""Seconds of that rest: with each message all connections find their next hops anew."""

_HANGS: Final = 30.0
"""Seconds without an answer after which the packet process is taken to hang."""


def connections_file(state_prefix: Path) -> Path:
    """Where connections are kept between a stop and a start."""
    return state_prefix.with_name(state_prefix.name + ".connections")


class RawDatapath:
    """Packet sockets in Python, in a process of its own."""

    capabilities = Capabilities(name="raw", restores_connections=True)

    def __init__(
        self,
        watch: KernelWatch,
        state_prefix: Path,
        hold: float,
        *,
        remove_others: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Nothing runs until ``attach``.

        Args:
            watch: the kernel's configuration.
            state_prefix: what files are named, before a suffix.
            hold: seconds for which the host's stack is kept silent after a stop with connections.
            remove_others: removes what another datapath has left; called when this one takes packets.
        """
        self._watch = watch
        self._connections_file = connections_file(state_prefix)
        self._hold = hold
        self._remove_others = remove_others
        self._shield = Shield()
        self._shield_lock = asyncio.Lock()
        self._shielded: frozenset[int] = frozenset()  # links, by index: one that comes back is another one
        self._shield_behind = False  # it could not be brought up to date
        self._interfaces: tuple[str, ...] = ()
        self._claim: Claim | None = None
        self._process: PacketProcess | None = None
        self._services: dict[str, ServicePlan] = {}  # as the packet process knows them
        self._took_over = self._connections_file.exists()
        self._restored = False  # or about to be: the file is the packet process's to read
        self._following = 0  # changes that the shield is being brought up to date with
        self._known = Known()  # of the kernel by the packet process, but for neighbours
        self._behind = asyncio.Event()  # it may know less than there is
        self._complaint = ""  # the last one about the shield: not to be said every five seconds
        self._unsubscribe: Callable[[], None] = lambda: None
        self._tasks = Tasks()

    # -- the interface of every datapath -------------------------------------------------------

    @property
    def took_over(self) -> bool:
        """See ``Datapath``."""
        return self._took_over

    async def attach(self, interfaces: Sequence[str]) -> None:
        """See ``Datapath``. Called again, it changes the interfaces."""
        if self._process is None:
            await self._start()
        # Shielded before their packets are taken and until they no longer are: what both take, the
        # host's stack answers with an RST.
        before = self._interfaces
        with self._shielding():
            self._interfaces = tuple(dict.fromkeys((*interfaces, *before)))
            try:
                await self._apply_shield()
            except DatapathError:
                self._interfaces = before
                raise
        await self._running.request("attach", tuple(interfaces))
        if self._interfaces != tuple(interfaces):
            self._interfaces = tuple(interfaces)
            with self._shielding():
                await self._apply_shield()

    async def apply(self, plan: Plan) -> None:
        """See ``Datapath``."""
        process = self._running
        before, claim = self._claim, Claim.of(plan, self._claim)
        if claim != before:
            # The shield first: a packet lost for a moment is sent again, an RST of the host is final.
            with self._shielding():
                self._claim = claim
                try:
                    await self._apply_shield()
                except DatapathError:
                    self._claim = before  # so that the next plan tries again
                    raise
        if self._remove_others is not None:
            # All that may keep us from taking packets is behind us. After the plan is too late: both would
            # forward the same packets. Until it is there the shield drops them, which the sender mends.
            await self._remove_others()
            self._remove_others = None
        known, self._services = self._services, {}
        services = [each.name if known.get(each.name) == each else each for each in plan.services]
        saved = None if self._restored else self._connections_file
        self._restored = True
        restored, left_out = await process.request("plan", replace(plan, services=()), services, saved)
        self._services = {each.name: each for each in plan.services}
        if restored or left_out:
            log.info("%d connections restored, %d left out", restored, left_out)

    async def reweigh(self, costs: Mapping[str, Costs]) -> None:
        """See ``Datapath``."""
        self._services = reweighed(self._services, costs)  # what the next plan is compared with
        await self._running.request("reweigh", costs)

    async def counters(self) -> Counters:
        """See ``Datapath``."""
        answer: Counters = await self._running.request("counters")
        return answer

    async def loads(self, services: Collection[str]) -> dict[BackendKey, Load]:
        """See ``Datapath``."""
        answer: dict[BackendKey, Load] = await self._running.request("loads", frozenset(services))
        return answer

    async def decisions(self) -> list[Decision]:
        """See ``Datapath``."""
        answer: list[Decision] = await self._running.request("decisions")
        return answer

    async def recall(self, service: str, client: Endpoint) -> Recalled:
        """See ``Datapath``."""
        answer: Recalled = await self._running.request("recall", service, client)
        return answer

    async def connections(self, which: ConnectionFilter, limit: int) -> tuple[list[ConnectionInfo], int]:
        """See ``Datapath``."""
        return await self._running.request_parts("connections", which, limit)

    async def flush(self, which: ConnectionFilter) -> int:
        """See ``Datapath``."""
        answer: int = await self._running.request("flush", which)
        return answer

    async def details(self) -> Mapping[str, str]:
        """See ``Datapath``."""
        answer: dict[str, str] = await self._running.request("details")
        return {**answer, "packet process": str(self._running.pid)}

    async def wait_failed(self) -> str:
        """See ``Datapath``."""
        return await self._tasks.wait_failed()

    async def close(self, *, hold: bool) -> None:
        """See ``Datapath``."""
        keep = hold and self._hold > 0
        # As long as nothing was restored, what is in the file is more than the packet process has.
        file = self._connections_file if keep and self._restored else None
        # A packet process that died could not say; its clients may still be there.
        live: int | None = None
        self._unsubscribe()
        await self._tasks.close()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(DatapathError):
                live = await process.request("stop", file)
            await process.end()
        if not self._restored:
            live = None
        async with self._shield_lock:
            if keep and live != 0 and self._claim is not None:
                if live:
                    log.info("%d live connections saved; the host stays silent for %g s", live, self._hold)
                await self._shield.hold(self._claim, self._present(), self._hold)
            elif not keep or live == 0:
                await self._shield.remove()
        if not keep:
            self._connections_file.unlink(missing_ok=True)

    @staticmethod
    async def clean_up(state_prefix: Path) -> list[str]:
        """Remove what a killed daemon left; what that was, for people."""
        removed = []
        if await Shield().remove():
            removed.append("the shield (nftables table 'netdev l4lb' and its tc filters)")
        saved = connections_file(state_prefix)
        if saved.exists():
            saved.unlink()
            removed.append(f"saved connections ({saved})")
        return removed

    # -- what it is made of --------------------------------------------------------------------

    @property
    def _running(self) -> PacketProcess:
        if self._process is None:
            raise DatapathError("the packet process is not running")
        return self._process

    async def _start(self) -> None:
        process = PacketProcess(lambda index, ip: self._tasks.start(self._watch.resolve(index, ip)))
        await process.start()
        self._process = process
        self._unsubscribe = self._watch.subscribe(self._kernel_changed)
        process.tell("neighbours", self._watch.state.neighbours)
        await self._tell_kernel(process)
        for task in (self._follow_kernel(process), self._look_after(process), self._see_end(process)):
            self._tasks.start(task, vital=True)

    def _kernel_changed(self, change: Change) -> None:
        if self._process is None:
            return
        if change.neighbours:
            self._process.tell("neighbours", change.neighbours)
        if change.links:
            # An interface that has come back is shielded before its packets are taken. From now on, not
            # from when the task begins: something else may be told of before.
            shielding = contextlib.ExitStack()
            shielding.enter_context(self._shielding())
            self._tasks.start(self._apply_shield_within(shielding))
        elif change.routes or change.addresses:
            self._behind.set()

    async def _apply_shield_within(self, shielding: AbstractContextManager[object]) -> None:
        with shielding:
            await self._apply_shield()

    @contextlib.contextmanager
    def _shielding(self) -> Iterator[None]:
        """Within, the shield is brought up to date. What the kernel says meanwhile is told afterwards:
        until then, an interface that is about to be shielded would be taken for one that cannot be."""
        self._following += 1
        try:
            yield
        finally:
            self._following -= 1
            self._behind.set()

    async def _follow_kernel(self, process: PacketProcess) -> None:
        """Tell the packet process what has changed: one message under way, with all that has come meanwhile
        in the next one, after a rest. A routing daemon at work must not stop the traffic."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._behind.wait()
            self._behind.clear()
            if self._following:
                continue  # the end of that is told of
            began = clock()
            try:
                await self._tell_kernel(process)
            except DatapathError:
                return  # who looks after it says why
            await asyncio.sleep(max(_REST_AT_LEAST, _REST * (clock() - began)))

    async def _tell_kernel(self, process: PacketProcess) -> None:
        news = self._known.learn(self._safe_state())
        if news is not None:
            await process.request("kernel", news)

    def _safe_state(self) -> KernelState:
        """What the packet process may know: an interface that could not be shielded is not there for it."""
        state = self._watch.state
        if self._claim is None:
            return state
        links = (
            link
            for link in state.links
            if link.name not in self._interfaces or link.index in self._shielded
        )
        return replace(state, links=tuple(links))

    def _present(self) -> list[str]:
        return [name for name in self._interfaces if self._watch.state.link(name) is not None]

    async def _apply_shield(self) -> None:
        async with self._shield_lock:
            if self._claim is None:
                return
            self._shield_behind = True
            links = {
                name: link.index for name in self._interfaces if (link := self._watch.state.link(name))
            }
            shielded = await self._shield.apply(self._claim, tuple(links))
            self._shielded = frozenset(links[name] for name in shielded)
            self._shield_behind = False

    async def _look_after(self, process: PacketProcess) -> None:
        """Put the shield back when somebody else has removed it, as ``nft flush ruleset`` does, try again
        where it could not follow, and end a packet process that hangs, so that it is started again."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await process.request("ping", timeout=_HANGS)
            except DatapathError as error:
                if process.open:
                    log.error("%s: it is killed", error)
                    process.kill()
                return
            try:
                async with self._shield_lock:
                    removed = self._claim is not None and not await self._shield.loaded()
                if removed:
                    log.warning(
                        "somebody removed the nftables table 'netdev l4lb' or its tc filters: "
                        "they are loaded again"
                    )
                if removed or self._shield_behind:
                    await self._apply_shield_within(self._shielding())
                self._complaint = ""
            except DatapathError as error:
                if str(error) != self._complaint:
                    log.error("%s", error)
                self._complaint = str(error)

    async def _see_end(self, process: PacketProcess) -> None:
        status = await process.wait()
        raise DatapathError(f"the packet process ended with status {status}")
