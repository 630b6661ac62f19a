"""The ``tc`` and ``xdp`` datapaths as the control plane sees them.

The programs in the kernel do all that packets need. This side says what should be, follows the kernel's
links and routes for them (``following``), forgets what has expired, and resets connections whose backend is
gone. It may be away for as long as it likes: it finds everything again in the pinned maps, and what has
expired is taken for nothing meanwhile, and gives way where there is no room.

All that touches the maps runs in one thread of its own, a piece at a time, so that neither a plan waits
for a million connections nor the control plane for the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from l4lb import privileges
from l4lb.datapath.base import Capabilities, ConnectionFilter, DatapathError
from l4lb.datapath.ebpf import layout, pins
from l4lb.datapath.ebpf.connections import (
    EVERY_RECORD,
    EVERY_STATE,
    Connections,
    Found,
    Query,
    info,
    resets,
)
from l4lb.datapath.ebpf.counters import counters, loads, not_negative
from l4lb.datapath.ebpf.decisions import decisions
from l4lb.datapath.ebpf.exits import missing
from l4lb.datapath.ebpf.following import Following
from l4lb.datapath.ebpf.hooks import NATIVE
from l4lb.datapath.ebpf.numbers import OutOfNumbers
from l4lb.datapath.ebpf.programs import Programs, remove, remove_abandoned
from l4lb.datapath.ebpf.raw_sender import RawSender
from l4lb.datapath.ebpf.recall import recall
from l4lb.datapath.ebpf.route_mtus import RouteMtus
from l4lb.datapath.ebpf.sweep import Sweep
from l4lb.datapath.ebpf.tables import Tables
from l4lb.datapath.libbpf import LibbpfError
from l4lb.datapath.tasks import Tasks, Turns
from l4lb.model import (
    BackendKey,
    ConnectionInfo,
    Costs,
    Counters,
    Decision,
    Endpoint,
    Limits,
    Load,
    Plan,
    Recalled,
    State,
)
from l4lb.netlink.state import Link
from l4lb.netlink.watch import KernelWatch
from l4lb.privileges import Capability

log = logging.getLogger(__name__)

_NEEDED: Final = (Capability.NET_ADMIN, Capability.BPF, Capability.PERFMON)
"""PERFMON: for programs that run over maps, and for the verifier, which otherwise forbids to write over a
pointer that was kept on the stack."""

_SWEEP: Final = 5.0
"""Seconds between two rounds of looking for what has expired."""

_REST: Final = 20
"""A round over very many connections is followed by a pause of as many times its own length."""

_Result = TypeVar("_Result")


class EbpfDatapath:
    """Programs at the hooks of the interfaces."""

    def __init__(
        self,
        watch: KernelWatch,
        kind: str,
        limits: Limits,
        *,
        file_system: Path = pins.FILE_SYSTEM,
        remove_others: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Nothing runs until ``attach``.

        Args:
            watch: the kernel's configuration.
            kind: tc or xdp.
            limits: how large the tables are, unless there are some already.
            file_system: where programs and maps are pinned.
            remove_others: removes what another datapath has left; called when this one takes packets.
        """
        # bpf_fib_lookup says nothing where an interface may not forward (BPF_FIB_LKUP_RET_FWD_DISABLED).
        self._capabilities = Capabilities(
            name=kind,
            survives_daemon=True,
            restores_connections=True,
            needs_forwarding=True,
            most_compared=layout.MOST_COSTS,
        )
        self._watch = watch
        self._kind = kind
        self._limits = limits
        self._file_system = file_system
        self._remove_others = remove_others
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=kind)
        self._sender = RawSender()
        self._programs: Programs | None = None
        self._tables: Tables
        self._connections: Connections
        self._sweep: Sweep
        self._unused: set[int] = set()  # retired paths that no connection had in the last round
        self._following: Following
        self._reset_wanted = asyncio.Event()
        self._tasks = Tasks()

    def load(self) -> None:
        """Load the programs, and take over what is pinned; ``attach`` does it if nobody has.

        Raises:
            DatapathError: they cannot run here; nothing new of them is left behind.
        """
        if lacking := privileges.missing(_NEEDED, privileges.held()):
            raise DatapathError(lacking)
        pins.mount(self._file_system)
        namespace = pins.namespace_directory(self._file_system)
        for line in _remove_abandoned(self._file_system, namespace):
            log.info("removed %s", line)
        try:
            self._programs = Programs(self._kind, self._limits, namespace)
            self._tables = Tables(self._programs.maps)
            mtus = RouteMtus(self._programs.maps)
        except (LibbpfError, OutOfNumbers, OSError) as error:
            programs, self._programs = self._programs, None
            if programs is not None:
                with contextlib.suppress(LibbpfError, OSError):  # what is wrong is said already
                    (programs.close if programs.adopted else programs.remove)()
            if isinstance(error, OSError):
                raise DatapathError(f"{namespace} cannot be used for pins: {error.strerror}") from None
            raise _in_one_line(error) from None
        self._capabilities = dataclasses.replace(self._capabilities, made_for=self._programs.made_for)
        query, sweep = self._programs.query, self._programs.sweep
        self._connections = Connections(query.maps, query.programs, self._tables)
        self._sweep = Sweep(sweep.maps, sweep.programs)
        self._following = Following(self._watch, self._kind, self._programs, self._tables, mtus, self._work)

    # -- the interface of every datapath -------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """See ``Datapath``."""
        return self._capabilities

    @property
    def took_over(self) -> bool:
        """See ``Datapath``."""
        return self._programs is not None and self._programs.adopted

    async def attach(self, interfaces: Sequence[str]) -> None:
        """See ``Datapath``. Called again, it changes the interfaces."""
        if self._programs is None:
            await asyncio.get_running_loop().run_in_executor(self._worker, self.load)
        self._following.interfaces = tuple(interfaces)
        if self._tasks:
            await self._following.all()
            return
        self._following.subscribe()  # first: so that nothing is missed of what changes while it begins
        try:
            await self._begin()
        except BaseException:
            self._following.close()
            raise

    async def apply(self, plan: Plan) -> None:
        """See ``Datapath``."""
        try:
            await self._work(self._tables.apply, plan)
        except OutOfNumbers as error:
            self._reset_soon()
            raise DatapathError(str(error)) from None
        self._reset_soon()

    async def reweigh(self, costs: Mapping[str, Costs]) -> None:
        """See ``Datapath``."""
        await self._work(self._tables.reweigh, costs)

    async def loads(self, services: Collection[str]) -> dict[BackendKey, Load]:
        """See ``Datapath``."""
        # The time is that of the look, and not of when it was asked for: the worker may be busy.
        return await self._work(
            lambda: loads(self._loaded.maps, self._tables, services, time.monotonic_ns())
        )

    async def counters(self) -> Counters:
        """See ``Datapath``."""
        return await self._work(lambda: counters(self._loaded.maps, self._tables, time.monotonic_ns()))

    async def decisions(self) -> list[Decision]:
        """See ``Datapath``."""
        return await self._work(decisions, self._loaded.maps, self._tables)

    async def recall(self, service: str, client: Endpoint) -> Recalled:
        """See ``Datapath``."""
        return await self._work(
            lambda: recall(self._loaded.maps, self._tables, service, client, time.monotonic_ns())
        )

    async def connections(self, which: ConnectionFilter, limit: int) -> tuple[list[ConnectionInfo], int]:
        """See ``Datapath``."""
        query = await self._query(which, records=limit)
        found: list[ConnectionInfo] = []
        total = 0
        async for part, more in self._ask(query):
            total += len(part) + more
            found += await self._work(self._infos, part)
        return found, total

    async def flush(self, which: ConnectionFilter) -> int:
        """See ``Datapath``."""
        return await self._reset(await self._query(which, take=True))

    async def details(self) -> Mapping[str, str]:
        """See ``Datapath``."""
        return await self._work(self._facts, self._watch.state.links)

    async def wait_failed(self) -> str:
        """See ``Datapath``."""
        return await self._tasks.wait_failed()

    async def close(self, *, hold: bool) -> None:
        """See ``Datapath``. With ``hold``, all stays as it is, and packets take their way."""
        if self._programs is not None:
            self._following.close()
        await self._tasks.close()
        programs, self._programs = self._programs, None
        loop = asyncio.get_running_loop()
        try:
            if programs is not None:
                end = programs.close if hold else programs.remove
                await loop.run_in_executor(self._worker, end)
        except (LibbpfError, OSError) as error:
            raise DatapathError(f"the programs could not be removed: {error}") from None
        finally:
            self._sender.close()
            self._worker.shutdown(wait=False)

    @staticmethod
    def clean_up(file_system: Path = pins.FILE_SYSTEM) -> list[str]:
        """Detach and remove what a stopped or killed daemon left; what that was, for people.

        Raises:
            DatapathError: something could not be removed.
        """
        if not pins.is_mounted(file_system) or not (file_system / "l4lb").is_dir():
            return []
        namespace = pins.namespace_directory(file_system)
        try:
            ours = [f"the eBPF programs and maps ({namespace})"] if remove(namespace) else []
            return ours + _remove_abandoned(file_system, namespace)
        except (LibbpfError, OSError) as error:
            raise DatapathError(f"the programs could not be removed: {error}") from None

    # -- what it does by itself ----------------------------------------------------------------

    async def _begin(self) -> None:
        await self._following.all()
        if self._loaded.adopted:
            found = await self.counters()
            log.info("%d established connections taken over", found.established)
        if self._remove_others is not None:
            await self._remove_others()
        for task in (
            self._following.forever(),
            self._following.look_after(),
            self._sweep_forever(),
            self._reset_forever(),
        ):
            self._tasks.start(task, vital=True)

    async def _sweep_forever(self) -> None:
        """Forget what has expired, and give back the numbers of paths that no connection has."""
        clock = asyncio.get_running_loop().time
        turns = Turns()
        while True:
            begun = clock()
            with turns.one():
                retired = await self._work(self._tables.retired)
                steps = self._sweep.steps(self._tables.paths)
                while await self._work(_more, steps):
                    pass
                await self._work(self._free, retired)
            await asyncio.sleep(max(_SWEEP, _REST * (clock() - begun), turns.pause))

    def _free(self, retired: set[int]) -> None:
        # To those that were not retired when the round began, connections may have come behind it. And one
        # round alone may have missed one: see connections.py about the kernel's iterators.
        unused = self._sweep.unused(retired)
        self._tables.free(self._tables.numbers.to_free(unused & self._unused))
        self._unused = unused

    async def _reset_forever(self) -> None:
        """Reset the connections of backends that went away. Those with traffic do not wait for it: their
        next packet ends them. Where it fails, those that were taken out already have no other reset."""
        turns = Turns()
        self._reset_soon()  # a daemon before had no time for it
        while True:
            await self._reset_wanted.wait()
            self._reset_wanted.clear()
            paths = frozenset(self._tables.to_reset)
            self._tables.to_reset -= paths  # what is gone once more meanwhile has its turn after this
            # A client still waiting for its SYN/ACK will send its SYN again: that one is rescheduled.
            states = EVERY_STATE & ~(1 << State.SYN_SENT)
            with turns.one():
                await self._reset(Query(paths, states=states, take=True, gone=True))
            if turns.failed:
                self._tables.to_reset |= paths
                self._reset_soon()
            await asyncio.sleep(turns.pause)

    def _reset_soon(self) -> None:
        if self._tables.to_reset:
            self._reset_wanted.set()

    async def _reset(self, query: Query) -> int:
        count = 0
        async for part, _ in self._ask(query):
            count += len(part)
            await self._work(self._send_resets, part)
        return count

    def _send_resets(self, connections: list[Found]) -> None:
        for destination, packet in resets(connections):
            self._sender.send(destination, packet)

    # -- what people ask -----------------------------------------------------------------------

    async def _query(
        self, which: ConnectionFilter, *, records: int = EVERY_RECORD, take: bool = False
    ) -> Query:
        return await self._work(partial(self._connections.query, which, records=records, take=take))

    async def _ask(self, query: Query) -> AsyncIterator[tuple[list[Found], int]]:
        pieces = self._connections.ask(query)
        try:
            while (piece := await self._work(next, pieces, None)) is not None:
                yield piece
        finally:
            await self._work(pieces.close)

    def _infos(self, connections: list[Found]) -> list[ConnectionInfo]:
        timeouts, now = self._tables.timeouts, time.monotonic_ns()  # the clock of clock.h
        return [info(found, timeouts, now) for found in connections]

    def _facts(self, links: Sequence[Link]) -> dict[str, str]:
        maps = self._loaded.maps
        totals = layout.TOTALS.unpack(maps["totals"].lookup(layout.word(0)) or b"")
        modes = self._loaded.hooks.modes()
        facts = {}
        for link in links:
            if link.index in modes:
                words = modes[link.index]
                known = self._tables.interfaces.get(link.index)
                if NATIVE in words and not (known and known.flags & layout.HOP_XDP):
                    words.append(missing(link))
                facts[f"interface {link.name}"] = ", ".join(words)
        if trouble := self._following.trouble:
            facts["not followed"] = trouble
        return {
            **facts,
            "established table": f"{totals.established} of {maps['connections4'].max_entries}",
            "half-open table": f"{not_negative(totals.half_open)} of {maps['half_open4'].max_entries}",
            "pins": str(self._loaded.directory),
        }

    # -- what it is made of --------------------------------------------------------------------

    @property
    def _loaded(self) -> Programs:
        if self._programs is None:
            raise DatapathError("the programs are not loaded")
        return self._programs

    async def _work(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run something in the thread that touches the maps."""
        if self._programs is None:
            raise DatapathError("the programs are not loaded")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)
        except LibbpfError as error:
            raise _in_one_line(error) from None
        except OSError as error:  # of files, these are all that the worker touches
            what = "use the pins" if error.filename else "ask the kernel"
            raise DatapathError(f"the {self._kind} datapath cannot {what}: {error}") from None


def _remove_abandoned(file_system: Path, ours: Path) -> list[str]:
    """What it was, for people."""
    directory = file_system / "l4lb"
    if not directory.is_dir():
        return []
    removed = remove_abandoned(directory, ours)
    return [f"the eBPF programs and maps of a network namespace that is gone ({each})" for each in removed]


def _more(steps: Iterator[None]) -> bool:
    """True if there was one more step."""
    return next(steps, steps) is not steps


def _in_one_line(error: LibbpfError | OutOfNumbers) -> DatapathError:
    """Its first line; what the verifier says goes to the log, in one message."""
    first, *more = str(error).splitlines()
    if more:
        log.error("%s", error)
    return DatapathError(first.removesuffix("; its log ends:"))
