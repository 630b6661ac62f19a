"""Puts VIPs on the host and keeps them there.

An address that is on the host before l4lb comes is used as it is, and never removed or restored: it
belongs to whoever put it there, a keepalived for example. The others are added as /32 or /128, so that
no subnet route comes with them, and are announced: when they are added, when their link gets its
carrier back, and when its link-layer address changes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from l4lb.netlink.addresses import Addresses
from l4lb.netlink.announcer import Announcer
from l4lb.netlink.interfaces import NoInterfaceError, interface_for, interface_with_subnet
from l4lb.netlink.ledger import Ledger, Place
from l4lb.netlink.state import Change, KernelState, Link
from l4lb.netlink.watch import KernelWatch

_log = logging.getLogger(__name__)

_SEEN_WITHIN = 1.0  # seconds for the kernel's events about changes that it has acknowledged
_AT_ONCE = 64  # VIPs that the kernel is asked to add or to remove in one go
_RESTORE_AFTER = 0.1  # seconds: a link that comes back comes in steps, and who removes VIPs may insist

_Changed = TypeVar("_Changed")


class VipError(Exception):
    """VIPs could not be put on the host, or taken from it. ``problems`` has one line for each."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class VipKeeper:
    """Keeps a set of VIPs on this host. Addresses are packed, 4 or 16 bytes.

    What it adds is remembered in a file, best under /run, so that after a kill -9 the next keeper
    adopts or removes what is left.
    """

    def __init__(self, watch: KernelWatch, path: Path) -> None:
        self._watch = watch
        self._path = path
        self._ledger = Ledger(path)
        self._addresses = Addresses()
        self._announcer = Announcer()
        self._announced: dict[bytes, Link] = {}  # the link as it was when the VIP was announced on it
        self._wanted: dict[bytes, str | None] = {}
        self._borrowed: set[bytes] = set()  # those the host had before us
        self._withdrawn: set[bytes] = set()  # of those, the ones that it has no more
        self._complaints: dict[bytes, str] = {}  # what stands in the way of those that are missing
        self._leaving: set[tuple[bytes, str]] = set()  # removed, though the state may still have them
        self._last_host = _Host(watch.state)
        self._busy = asyncio.Lock()
        self._restoring: asyncio.Task[None] | None = None
        self._unsubscribe = watch.subscribe(self._on_change)

    @property
    def withdrawn(self) -> frozenset[bytes]:
        """Those that were on this host before us, and that who had put them there took away: they are on no
        interface, and not put there again."""
        return frozenset(self._withdrawn)

    async def keep(self, vips: Mapping[bytes, str | None]) -> None:
        """Make exactly these VIPs present, each on the interface named, or by default on the one
        whose subnet contains it, else on the one the default route leaves by.

        Raises:
            VipError: not all of it could be done. The rest is, and what is missing is tried again
                whenever a link or an address changes.
        """
        async with self._busy, self._addresses:
            before, self._wanted = self._wanted, dict(vips)
            self._borrowed &= vips.keys()
            self._withdrawn &= vips.keys()
            left = await _all_of(self._remove, [ip for ip in self._ledger if ip not in vips])
            problems = [*left.values()]
            for ip, name in vips.items():
                if name is None and before.get(ip) is not None:
                    self._unsettle(ip)  # where it was told to be is not where it is to stay
            self._complaints = await self._place_all()
            await self._watch.wait_for(lambda state: self._has_settled(), _SEEN_WITHIN)
            self._leaving.clear()
            self._announce_due()
        problems += self._complaints.values()
        if problems:
            raise VipError(*problems)

    async def clear(self) -> None:
        """Remove every address that this keeper, or a killed one before it, has added.

        Raises:
            VipError: some could not be removed; they stay remembered.
        """
        await self.keep({})

    async def close(self) -> None:
        """Announce and restore nothing further. The VIPs stay; call ``clear`` first to remove them."""
        self._unsubscribe()
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.wait([self._restoring])
        await self._announcer.close()

    async def _place_all(self) -> dict[bytes, str]:
        """Put on the host what is wanted and missing; by VIP, what stands in the way."""
        problems: dict[bytes, str] = {}
        missing = []
        for ip, name in self._wanted.items():
            try:
                missing += await self._place(ip, name)
            except VipError as error:
                problems[ip] = str(error)
        problems |= self._save()  # before the addresses, or a kill between leaves orphans
        failed = await _all_of(self._add, [each for each in missing if each.ip not in problems])
        problems |= {each.ip: problem for each, problem in failed.items()}
        return self._save() | problems

    async def _place(self, ip: bytes, name: str | None) -> list[_Missing]:
        """Note where a VIP is to be; itself, if it is not there."""
        self._follow_name(ip)
        holders = self._host.holders(ip)
        ours = self._ledger.interface(ip)
        if holders and ours not in holders:
            if ip not in self._borrowed:
                _log.info("VIP %s is on %s already and is used as it is", ip_address(ip), holders[0])
            self._borrowed.add(ip)
            self._withdrawn.discard(ip)
            self._ledger.forget(ip)  # if ours went away, somebody else has it now
            return []
        if ip in self._borrowed:
            self._withdrawn.add(ip)
            return []
        link, settled = self._choose(ip) if name is None else (self._link_for(ip, name), True)
        there = ours in holders and link.name == ours
        if ours in holders and not there:
            await self._remove(ip)
        known = self._ledger.interface(ip) == link.name
        self._ledger.record(ip, Place(link.name, link.index, settled))
        return [] if there else [_Missing(ip, link, known)]

    def _choose(self, ip: bytes) -> tuple[Link, bool]:
        """The link for a VIP that has no interface named, and whether that is the one it is to stay with:
        even while it has no subnet, and another one would be chosen."""
        place = self._ledger.place(ip)
        ours = self._host.link(place.interface) if place is not None else None
        if ours is not None and place is not None and place.settled:
            return ours, True
        home = interface_with_subnet(self._watch.state, ip)
        if home is not None:
            return home, True
        if ours is not None:
            return ours, False
        return self._link_for(ip, place.interface if place is not None and place.settled else None), False

    def _follow_name(self, ip: bytes) -> None:
        """Our interface may have another name by now."""
        place = self._ledger.place(ip)
        if place is not None and (link := self._host.link_at(place.index)) is not None:
            self._ledger.record(ip, replace(place, interface=link.name))

    def _unsettle(self, ip: bytes) -> None:
        """Where a VIP is, it waits for its subnet."""
        if (place := self._ledger.place(ip)) is not None:
            self._ledger.record(ip, replace(place, settled=False))

    def _save(self) -> dict[bytes, str]:
        """Have the file say where our VIPs are; of what cannot be noted, what comes of that."""
        unsaved = {ip: ip in self._ledger for ip in self._ledger.unsaved()}
        try:
            self._ledger.save()
        except OSError as error:
            why = f"{self._path} cannot be written: {error.strerror}"
            return {
                ip: f"VIP {ip_address(ip)} {'is not added' if new else 'stays remembered as ours'}: {why}"
                for ip, new in unsaved.items()
            }
        return {}

    def _link_for(self, ip: bytes, name: str | None) -> Link:
        try:
            return interface_for(self._watch.state, ip, name)
        except NoInterfaceError as error:
            raise VipError(f"VIP {ip_address(ip)}: {error}") from None

    async def _add(self, missing: _Missing) -> None:
        ip, link = missing.ip, missing.link
        text = str(ip_address(ip))
        problem = await self._addresses.add(link.index, text)
        if problem is None:
            _log.info("VIP %s added on %s", text, link.name)
            return
        exists = problem[0] == errno.EEXIST
        if exists and missing.known:  # unseen, as its link was down
            return
        if not missing.known:  # else it stays remembered: a link that was just going away will be back
            self._ledger.forget(ip)
        if exists:  # somebody else was faster; of IPv6 nothing is seen until it is known to be nobody's
            self._borrowed.add(ip)
            self._withdrawn.add(ip)
            return
        raise VipError(f"VIP {text} cannot be put on {link.name}: {_explain(problem)}")

    async def _remove(self, ip: bytes) -> None:
        text = str(ip_address(ip))
        self._follow_name(ip)
        name = self._ledger.interface(ip)
        link = self._host.link(name)
        self._announcer.stop(ip)
        self._announced.pop(ip, None)
        if link is not None:
            problem = await self._addresses.delete(link.index, text)
            if problem is None:
                _log.info("VIP %s removed from %s", text, name)
            elif problem[0] not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise VipError(f"VIP {text} cannot be removed from {name}: {_explain(problem)}")
            self._leaving.add((ip, link.name))
        self._ledger.forget(ip)

    def _on_change(self, change: Change) -> None:
        if not (change.links or change.addresses):
            return
        self._announce_due()
        missing = [ip for ip in self._wanted if ip not in self._borrowed and not self._host.holders(ip)]
        if missing and (self._restoring is None or self._restoring.done()):
            self._restoring = asyncio.create_task(self._restore(), name="restore VIPs")

    async def _restore(self) -> None:
        await asyncio.sleep(_RESTORE_AFTER)
        async with self._busy, self._addresses:
            before, self._complaints = self._complaints, await self._place_all()
            for ip, complaint in self._complaints.items():
                if complaint != before.get(ip):
                    _log.warning("%s", complaint)
            self._announce_due()

    def _has_settled(self) -> bool:
        """True if the host is known to have all that was added and nothing that was removed.

        The kernel says nothing of an IPv6 address on a link that is down.
        """
        host = self._host
        for ip in self._ledger:
            link = host.link(self._ledger.interface(ip))
            if link is not None and link.up and link.name not in host.holders(ip):
                return False
        return not any(
            name in host.holders(ip) and self._ledger.interface(ip) != name for ip, name in self._leaving
        )

    def _announce_due(self) -> None:
        """Announce each VIP of ours that is on a working link and has not been announced there."""
        host = self._host
        for ip in self._ledger:
            name = self._ledger.interface(ip)
            link = host.link(name)
            if ip not in self._wanted or link is None or not link.up:
                self._announced.pop(ip, None)
            elif name in host.holders(ip):
                before = self._announced.get(ip)
                if before is None or (before.index, before.mac) != (link.index, link.mac):
                    self._announced[ip] = link
                    self._announcer.start(link, ip)

    @property
    def _host(self) -> _Host:
        """The host as it is now."""
        if self._last_host.state is not self._watch.state:
            self._last_host = _Host(self._watch.state)
        return self._last_host


@dataclass(frozen=True, slots=True)
class _Missing:
    """A VIP to be added. ``known``: it was noted for this link before."""

    ip: bytes
    link: Link
    known: bool


class _Host:
    """A snapshot, to look links and addresses up in."""

    def __init__(self, state: KernelState) -> None:
        self.state = state
        self._by_index = {link.index: link for link in state.links}
        self._by_name = {link.name: link for link in state.links}
        self._holders: dict[bytes, list[str]] = {}
        for address in state.addresses:
            if (link := self._by_index.get(address.index)) is not None:
                self._holders.setdefault(address.ip, []).append(link.name)

    def link(self, name: str | None) -> Link | None:
        """The link of that name."""
        return self._by_name.get(name) if name is not None else None

    def link_at(self, index: int) -> Link | None:
        """The link of that index."""
        return self._by_index.get(index)

    def holders(self, ip: bytes) -> list[str]:
        """Names of the links that have an address."""
        return self._holders.get(ip, [])


async def _all_of(
    change: Callable[[_Changed], Awaitable[None]], those: Sequence[_Changed]
) -> dict[_Changed, str]:
    """Change all of those; of those that failed, why. Many at a time, so that what the kernel says of them
    comes together: each time it does, all VIPs are looked at."""
    problems = {}
    for begin in range(0, len(those), _AT_ONCE):
        several = those[begin : begin + _AT_ONCE]
        outcomes = await asyncio.gather(*map(change, several), return_exceptions=True)
        for each, outcome in zip(several, outcomes, strict=True):
            if isinstance(outcome, VipError):
                problems[each] = str(outcome)
            elif outcome is not None:
                raise outcome
    return problems


def _explain(problem: tuple[int, str]) -> str:
    code, words = problem
    if code == errno.EPERM:
        return f"{words}; run l4lb as root"
    return words
