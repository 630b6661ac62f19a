"""Sends whole IP packets that the gateway makes itself, whoever they are from."""

from __future__ import annotations

import contextlib
import logging
import socket

log = logging.getLogger(__name__)


class RawSender:
    """Raw sockets of both versions of IP, whose packets bring their own header (IPPROTO_RAW, raw(7)): the
    kernel finds the way and does not mind a source address that is not its own."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}

    def send(self, destination: bytes, packet: bytes) -> None:
        """Send it if there is a way. Nobody waits for it: not sent is as good as lost."""
        family = socket.AF_INET if len(destination) == 4 else socket.AF_INET6
        try:
            if family not in self._sockets:
                self._sockets[family] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._sockets[family].sendto(packet, (socket.inet_ntop(family, destination), 0))
        except OSError as error:
            log.debug("a packet to %s was not sent: %s", socket.inet_ntop(family, destination), error)

    def close(self) -> None:
        """Close the sockets."""
        with contextlib.ExitStack() as stack:
            for each in self._sockets.values():
                stack.callback(each.close)
        self._sockets = {}
