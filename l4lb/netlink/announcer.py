"""Announces addresses on their links, so that hosts with an old neighbour entry send here now."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

from l4lb.netlink.state import Link
from l4lb.wire.announce import gratuitous_arp, unsolicited_na

_log = logging.getLogger(__name__)

ROUNDS: Final = 3
"""How often an address is announced: MAX_NEIGHBOR_ADVERTISEMENT of RFC 4861 section 10, and one more
than ANNOUNCE_NUM of RFC 5227 section 1.1. One frame alone may be lost, or come before a switch port
forwards."""

INTERVAL: Final = 2.0
"""Seconds between them: ANNOUNCE_INTERVAL of RFC 5227, more than the RetransTimer of RFC 4861."""


class Announcer:
    """Sends the rounds in the background."""

    def __init__(self) -> None:
        self._rounds: dict[bytes, asyncio.Task[None]] = {}
        # One for all: the kernel takes ten milliseconds to close one, and nothing else is done meanwhile.
        self._socket: socket.socket | None = None

    def start(self, link: Link, ip: bytes) -> None:
        """Announce an address of this host (4 or 16 bytes) on a link, beginning now.

        A link without link-layer addresses has nobody to tell.
        """
        self.stop(ip)
        if link.mac:
            self._rounds[ip] = asyncio.create_task(
                self._announce(link, ip), name=f"announce on {link.name}"
            )

    def stop(self, ip: bytes) -> None:
        """Announce an address no further."""
        task = self._rounds.pop(ip, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Announce nothing further."""
        tasks = list(self._rounds.values())
        self._rounds.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _announce(self, link: Link, ip: bytes) -> None:
        if len(ip) == 4:
            frames = [gratuitous_arp(link.mac, ip), gratuitous_arp(link.mac, ip, reply=True)]
        else:
            frames = [unsolicited_na(link.mac, ip)]
        for number in range(ROUNDS):
            if number:
                await asyncio.sleep(INTERVAL)
            try:
                self._send(link.name, frames)
            except OSError as error:  # the link went down: it is announced again when it is back
                _log.debug("an address cannot be announced on %s: %s", link.name, error)

    def _send(self, interface: str, frames: list[bytes]) -> None:
        if self._socket is None:
            # Protocol 0: it receives nothing.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setblocking(False)
        for frame in frames:
            self._socket.sendto(frame, (interface, 0))
