"""The programs follow the kernel's configuration: links, routes and neighbours as they come and go.

The watch is the loop's. What it says crosses into the worker, who alone touches the maps, as a snapshot
that is taken when the work is handed over: so the last work has the latest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from l4lb.datapath.ebpf.exits import known_interfaces
from l4lb.datapath.ebpf.programs import Programs
from l4lb.datapath.ebpf.route_mtus import RouteMtus
from l4lb.datapath.ebpf.tables import Tables
from l4lb.datapath.tasks import Turns
from l4lb.netlink.state import Change, Link, Neighbour, Route
from l4lb.netlink.watch import KernelWatch
from l4lb.netlink.xdp_features import xdp_features

log = logging.getLogger(__name__)

_LOOK: Final = 5.0
"""Seconds between two looks at whether the programs are where they should be."""

_NAMED: Final = 5
"""Interfaces named in one line of the log."""

Work = Callable[..., Awaitable[Any]]
"""Runs a function with its arguments in the worker's thread."""


class Following:
    """Where the programs are attached, and what they know of interfaces and routes."""

    def __init__(
        self, watch: KernelWatch, kind: str, programs: Programs, tables: Tables, mtus: RouteMtus, work: Work
    ) -> None:
        """Nothing is followed until ``all`` and ``forever`` run.

        Args:
            watch: the kernel's configuration.
            kind: tc or xdp.
            programs: loaded.
            tables: what they know of interfaces; its hops are void when something changes.
            mtus: what they know of routes.
            work: for all that touches those.
        """
        self.interfaces: tuple[str, ...] = ()  # names of those that are wanted
        self._watch = watch
        self._kind = kind
        self._programs = programs
        self._tables = tables
        self._mtus = mtus
        self._work = work
        self._taken: dict[int, str] = {}  # those that are there: index -> the name that was wanted
        self._renamed: set[int] = set()  # of those, at the last look
        self._left_out_told = False  # that there are more interfaces than there is room for
        self._changed = asyncio.Event()  # anything that hops depend on; of that these in particular:
        self._links_changed = False
        self._routes_changed = False
        self._neighbours: set[tuple[int, bytes]] = set()  # link and address of those that have answered
        self._links_turns, self._routes_turns = Turns(), Turns()
        self._retry: asyncio.TimerHandle | None = None  # of what failed
        self._unsubscribe: Callable[[], None] = lambda: None

    def subscribe(self) -> None:
        """What changes from here on is followed when ``forever`` runs."""
        self._neighbours = {(each.index, each.ip) for each in self._watch.state.neighbours}
        self._unsubscribe = self._watch.subscribe(self._kernel_changed)

    def close(self) -> None:
        """Follow nothing any more; programs stay where they are."""
        self._unsubscribe()
        if self._retry is not None:
            self._retry.cancel()

    @property
    def trouble(self) -> str | None:
        """What could not be followed for some time, and why; for people."""
        troubles = {"interfaces": self._links_turns.trouble, "routes": self._routes_turns.trouble}
        return "; ".join(f"{what}: {why}" for what, why in troubles.items() if why) or None

    async def all(self) -> None:
        """Everything, as it is now.

        Raises:
            DatapathError: the kernel does not take it.
        """
        await self._follow_links()
        await self._follow_routes()

    async def forever(self) -> None:
        """What changes while one change is followed is followed together, after it: a plan never waits for
        more than two. After one that could not be followed all is, as it is then. An interface that does
        not take its program is no reason to send by old routes."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            links, self._links_changed = self._links_changed, False
            routes, self._routes_changed = self._routes_changed, False
            if links:
                with self._links_turns.one():
                    await self._follow_links()
            with self._routes_turns.one():
                if routes:
                    await self._follow_routes()
                else:
                    await self._work(self._tables.routes_changed)
            self._follow_all_anew_if_failed()

    async def look_after(self) -> None:
        """Put programs back that somebody else has removed."""
        while True:
            await asyncio.sleep(_LOOK)
            if self._links_turns.failed:
                continue  # it is tried again anyway
            with self._links_turns.one():
                await self._work(self._put_programs, self._watch.state.links, True)
            self._follow_all_anew_if_failed()

    def _follow_all_anew_if_failed(self) -> None:
        """After a pause. Who knows how much of it was done."""
        failed = [turns for turns in (self._links_turns, self._routes_turns) if turns.failed]
        if failed and self._retry is None:
            pause = max(turns.pause for turns in failed)
            self._retry = asyncio.get_running_loop().call_later(pause, self._follow_all_anew)

    def _follow_all_anew(self) -> None:
        self._retry = None
        self._links_changed = self._routes_changed = True
        self._changed.set()

    def _kernel_changed(self, change: Change) -> None:
        self._links_changed |= change.links
        self._routes_changed |= change.routes
        if self._learn(change.neighbours) or change.links or change.routes or change.addresses:
            self._changed.set()

    def _learn(self, neighbours: Iterable[Neighbour]) -> bool:
        """False if it makes no difference: no program remembers a hop to who has never answered, and
        somebody who asks for all addresses of a network in turn must not have all other hops forgotten."""
        differs = False
        for each in neighbours:
            known = (each.index, each.ip) in self._neighbours
            if each.mac is not None:
                self._neighbours.add((each.index, each.ip))
            else:
                self._neighbours.discard((each.index, each.ip))
            differs |= known or each.mac is not None
        return differs

    async def _follow_links(self) -> None:
        await self._work(self._put_programs, self._watch.state.links, False)

    async def _follow_routes(self) -> None:
        await self._work(self._put_routes, self._watch.state.routes)

    # -- in the worker's thread ----------------------------------------------------------------

    def _put_programs(self, links: Sequence[Link], look: bool) -> None:
        """Programs on the interfaces that are there, and pinned, also where somebody has removed them. One
        that gets another name keeps them, until it still has it at the second look: the names that are
        wanted may be told anew in a moment, or be about to be told as they were, and the host's stack would
        reset connections."""
        hooks = self._programs.hooks
        if self._programs.pin_again():
            log.warning("somebody removed pins from %s: they are there again", self._programs.directory)
        wanted = {link.index: link.name for link in links if link.name in self.interfaces}
        renamed = {
            link.index: link.name for link in links if self._taken.get(link.index, link.name) != link.name
        }
        if look:
            left, self._renamed = self._renamed & renamed.keys(), set(renamed)
            renamed = {index: name for index, name in renamed.items() if index not in left}
        self._taken = {index: self._taken[index] for index in renamed} | wanted
        repaired = hooks.put_on(renamed | wanted)
        features = xdp_features(link.index for link in links) if self._kind == "xdp" else {}
        known = known_interfaces(links, hooks.attached, features)
        if self._tables.set_interfaces(known):
            self._tables.routes_changed()
            self._tell_left_out([link for link in links if link.index in known])
        if repaired:
            names = ", ".join(repaired)
            log.warning("somebody removed the programs from %s: they are attached again", names)

    def _tell_left_out(self, links: Sequence[Link]) -> None:
        """Once, until there is room for all."""
        names = [link.name for link in links if link.index not in self._tables.interfaces]
        told, self._left_out_told = self._left_out_told, bool(names)
        if names and not told:
            log.warning(
                "more interfaces than the programs have room for (%d): frames go the longer way by %s%s",
                len(self._tables.interfaces),
                ", ".join(names[:_NAMED]),
                f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "",
            )

    def _put_routes(self, routes: Sequence[Route]) -> None:
        """What the programs remember of them is void."""
        self._mtus.update(routes)
        self._tables.routes_changed()
