"""The programs on the interfaces: at TC ingress always, at XDP in front of it where asked for.

A program stays where it is as long as its link is pinned, whoever runs. Before Linux 6.6 there are no links
at TC: it is a filter of the clsact qdisc there, and an empty directory beside the pins says so.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from l4lb.datapath.libbpf import (
    LibbpfError,
    Link,
    Program,
    XdpMode,
    attach_clsact,
    attach_tcx,
    attach_xdp,
    detach_clsact,
)

log = logging.getLogger(__name__)

TCX: Final = "tcx"
CLSACT: Final = "clsact"
NATIVE: Final = "xdp-native"
GENERIC: Final = "xdp-generic"
XDP: Final[dict[str, XdpMode]] = {NATIVE: "native", GENERIC: "generic"}
"""Hooks, the best first, as they are shown and as pins are named."""

FILTER: Final = 0x14B
"""Handle and priority of our filter in clsact, by which it is found again."""


_GONE: Final = (errno.ENOENT, errno.ENOLINK, errno.ENODEV)
"""The pin, the link's interface, the filter's interface."""


class Hooks:
    """The programs of one network namespace on its interfaces, which are known by their indices."""

    def __init__(self, links: Path, tc: Program, xdp: Program | None) -> None:
        """``links``: the directory with what is attached, by this daemon or by one before it."""
        self._links = links
        self._tc = tc
        self._xdp = xdp
        self._names: dict[int, str] = {}
        self._refusals: dict[int, str] = {}  # of XDP

    def take_over(self) -> None:
        """Put these programs in the place of those of a daemon before; every packet meets the one or the
        other. What is not wanted any more, or of interfaces that are gone, is removed.

        Raises:
            LibbpfError: one cannot be replaced, say for want of descriptors; it stays where it is.
        """
        for hook, index in attached(self._links):
            if not self._replace(hook, index):
                detach(self._links, hook, index)

    def put_on(self, interfaces: Mapping[int, str]) -> list[str]:
        """Have the programs on exactly these interfaces, index -> name.

        Returns:
            The names of those that had one which somebody else removed; it is there again.

        Raises:
            LibbpfError: on one of them they cannot be.
        """
        repaired = []
        for hook, index in attached(self._links):
            if index not in interfaces:
                detach(self._links, hook, index)
        known, self._names = self._names, {}
        for index, name in interfaces.items():
            try:
                new = self._put_tc(index) | self._put_xdp(index, name)
            except LibbpfError as error:
                if error.errno != errno.ENODEV:
                    raise
                continue  # it has just disappeared
            self._names[index] = name
            if new and index in known:
                repaired.append(name)
        return repaired

    @property
    def attached(self) -> set[tuple[str, int]]:
        """Hooks and interfaces."""
        return set(attached(self._links))

    def modes(self) -> dict[int, list[str]]:
        """The hooks by interface, what sees packets first in front; and why there is no XDP, where there
        should be."""
        modes: dict[int, list[str]] = {index: [] for index in self._names}
        for hook, index in sorted(self.attached, reverse=True):
            if index in modes:
                modes[index].append(hook)
        for index, reason in self._refusals.items():
            if index in modes:
                modes[index].append(f"no XDP: {reason}")
        return modes

    def _put_tc(self, index: int) -> bool:
        """Attach the program; False if it was there."""
        if self._is_there(TCX, index):
            return False
        here = (CLSACT, index) in attached(self._links)
        if not here:
            try:
                self._pin(attach_tcx(self._tc, index), TCX, index)
            except LibbpfError as error:
                if error.errno == errno.EEXIST:  # a link that nobody holds any more goes a moment later
                    return False
                if error.errno != errno.EINVAL:
                    raise
            else:
                return True
        # Before it: a filter of which nothing says so would be nobody's, were we killed in between.
        _pin_path(self._links, CLSACT, index).mkdir(exist_ok=True)
        attach_clsact(self._tc, index, FILTER, FILTER)  # again: whether it is there cannot be seen
        return not here

    def _put_xdp(self, index: int, name: str) -> bool:
        if self._xdp is None or any(self._is_there(hook, index) for hook in XDP):
            return False
        problems = []
        for hook, mode in XDP.items():
            try:
                self._pin(attach_xdp(self._xdp, index, mode), hook, index)
            except LibbpfError as error:
                problems.append(str(error))
            else:
                if self._refusals.pop(index, None) is None:
                    return True
                log.info("%s has XDP now", name)
                return False  # it is not back, it is here for the first time
        if index not in dict(socket.if_nameindex()):
            return False
        if index not in self._refusals:
            log.warning("%s goes without XDP, TC does it all: %s", name, problems[0])
        self._refusals[index] = problems[0]
        return False

    def _is_there(self, hook: str, index: int) -> bool:
        """True if our link is pinned and attaches to the interface."""
        try:
            link = Link.from_pin(_pin_path(self._links, hook, index))
        except LibbpfError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        with contextlib.closing(link):
            return link.info().ifindex == index

    def _replace(self, hook: str, index: int) -> bool:
        """False where there is nothing to replace, or nothing to replace it by."""
        try:
            if hook == CLSACT:
                attach_clsact(self._tc, index, FILTER, FILTER)
                return True
            if hook in XDP:
                return self._xdp is not None and self._update(self._xdp, hook, index)
            return self._update(self._tc, hook, index)
        except LibbpfError as error:
            if error.errno in _GONE:
                return False
            raise

    def _update(self, program: Program, hook: str, index: int) -> bool:
        with contextlib.closing(Link.from_pin(_pin_path(self._links, hook, index))) as link:
            try:
                link.update(program)
            except LibbpfError:
                if hook not in XDP:
                    raise
                return False  # whatever the driver has against it: TC takes all until it is attached anew
        return True

    def _pin(self, link: Link, hook: str, index: int) -> None:
        path = _pin_path(self._links, hook, index)
        with contextlib.closing(link):
            path.unlink(missing_ok=True)  # of a link that somebody has detached
            link.pin(path)


def attached(links: Path) -> list[tuple[str, int]]:
    """Hooks and indices of interfaces, as the pins say. Of what others have put there nothing is said."""
    return list(_read(links)) if links.is_dir() else []


def have_lost_all(links: Path) -> bool:
    """True if interfaces were attached to, and none of them is there any more; of filters that cannot be
    seen."""
    pins = attached(links)
    return bool(pins) and all(hook != CLSACT and _is_defunct(links, hook, index) for hook, index in pins)


def _is_defunct(links: Path, hook: str, index: int) -> bool:
    with contextlib.closing(Link.from_pin(_pin_path(links, hook, index))) as link:
        return link.info().ifindex == 0


def _read(links: Path) -> Iterator[tuple[str, int]]:
    for pin in links.iterdir():
        hook, _, index = pin.name.rpartition("-")
        if hook in (TCX, CLSACT, *XDP) and index.isdecimal() and _pin_path(links, hook, int(index)) == pin:
            yield hook, int(index)


def detach(links: Path, hook: str, index: int) -> None:
    """Take a program off an interface, which may be gone; it sees no packet any more."""
    path = _pin_path(links, hook, index)
    if hook == CLSACT:
        with contextlib.suppress(LibbpfError):  # with the interface, the qdisc or by somebody else
            detach_clsact(index, FILTER, FILTER)
        path.rmdir()
    else:
        # By itself the link goes a moment after its last pin. Until then there would be two that forward,
        # each to a backend of its own, where another datapath takes packets from now on.
        with (
            contextlib.suppress(LibbpfError),  # somebody was faster
            contextlib.closing(Link.from_pin(path)) as link,
        ):
            link.detach()
        path.unlink(missing_ok=True)


def _pin_path(links: Path, hook: str, index: int) -> Path:
    return links / f"{hook}-{index}"
