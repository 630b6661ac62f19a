"""The interfaces the packet process works on: their sockets, opened, lost and opened again."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Final

from l4lb.datapath.raw.claim import HAND_BACK_MARK, Claim
from l4lb.datapath.raw.hops import Send, is_ethernet
from l4lb.datapath.raw.packet_socket import PacketSocket, option_memory
from l4lb.model import Plan
from l4lb.netlink.state import Link

_OPTION_SLACK: Final = 240
"""Bytes of socket option memory for what is not instructions."""


class Port:
    """The sockets of one interface.

    Frames are handed back to the host's stack through a socket of their own, whose mark turns them
    round (shield.py).
    """

    __slots__ = ("_hand_back", "index", "name", "receives", "socket")

    def __init__(self, name: str, index: int, packet_filter: bytes | None) -> None:
        """Receive what ``packet_filter`` lets through; None only sends.

        Raises:
            OSError: the interface is gone or the process may not open packet sockets.
        """
        self.name = name
        self.index = index
        self.receives = packet_filter is not None
        self.socket = PacketSocket(name, index, packet_filter)
        self._hand_back: PacketSocket | None = None

    def hand_back(self, frame: bytes | bytearray | memoryview) -> None:
        """Give a frame to the host's stack as if it had just come in here."""
        if self._hand_back is None:
            self._hand_back = PacketSocket(self.name, self.index, mark=HAND_BACK_MARK)
        self._hand_back.send(frame)

    def close(self) -> None:
        """Close the sockets."""
        self.socket.close()
        if self._hand_back is not None:
            self._hand_back.close()


class Ports:
    """All open ports: the attached interfaces receive, any that a route leaves by can send."""

    def __init__(
        self,
        opened: Callable[[Port], None],
        closing: Callable[[Port], None],
        complain: Callable[[str], None],
    ) -> None:
        """``opened`` and ``closing`` are told of ports that receive, ``complain`` of interfaces that
        cannot be used."""
        self._opened = opened
        self._closing = closing
        self._complain = complain
        self._links: dict[int, Link] = {}
        self._attached: frozenset[str] = frozenset()
        self._by_index: dict[int, Port] = {}
        self._unusable: set[int] = set()  # already complained of
        self._closed_overruns = 0
        self._claim = Claim.of(Plan())

    @property
    def receiving(self) -> list[Port]:
        """The ports that receive."""
        return [port for port in self._by_index.values() if port.receives]

    def claim(self, claim: Claim) -> None:
        """Receive these packets from now on."""
        if claim != self._claim:
            self._claim = claim
            for port in self.receiving:
                port.socket.set_filter(self._filter())

    def attach(self, interfaces: Iterable[str]) -> None:
        """Receive on exactly these interfaces, and on those not there now once they come."""
        self._attached = frozenset(interfaces)
        self._reconcile()

    def follow(self, links: Iterable[Link]) -> None:
        """Interfaces have come, gone or changed."""
        self._links = {link.index: link for link in links}
        self._unusable.clear()
        self._reconcile()

    def egress(self, index: int) -> Send | None:
        """The way out of an interface, None if it cannot be used."""
        port = self._by_index.get(index) or self._open(index, receive=False)
        return port.socket.send if port is not None else None

    def overruns(self) -> int:
        """Frames that the kernel dropped because our queues were full."""
        return self._closed_overruns + sum(port.socket.read_overruns() for port in self.receiving)

    def _filter(self) -> bytes:
        """As exact as the kernel's memory for socket options lets it be: while a filter is replaced,
        the old one and the new one count together."""
        return self._claim.packet_filter(option_memory() // 2 - _OPTION_SLACK)

    def _open(self, index: int, *, receive: bool) -> Port | None:
        link = self._links.get(index)
        if link is None or index in self._unusable:
            return None
        try:
            port = Port(link.name, index, self._filter() if receive else None)
        except OSError as error:
            self._unusable.add(index)
            if error.errno != errno.ENODEV:  # gone: the news of it is on its way
                self._complain(f"interface {link.name} cannot be used: {error.strerror}")
            return None
        self._by_index[index] = port
        if receive:
            self._opened(port)
        return port

    def _shut(self, port: Port) -> None:
        if port.receives:
            self._closing(port)
            self._closed_overruns += port.socket.read_overruns()
        del self._by_index[port.index]
        port.close()

    def _reconcile(self) -> None:
        """Make the open sockets fit the interfaces that exist and the ones to receive on."""
        wanted = {
            index
            for index, link in self._links.items()
            if link.name in self._attached and is_ethernet(link)
        }
        for port in list(self._by_index.values()):
            link = self._links.get(port.index)
            if link is None or link.name != port.name or port.receives != (port.index in wanted):
                self._shut(port)
        for index in wanted - self._by_index.keys():
            self._open(index, receive=True)
