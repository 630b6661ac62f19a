"""Client affinity: a client's next connection goes where its last one went."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from l4lb.director.connection import Path

_Clients = OrderedDict[bytes, tuple[Path, float]]
"""Client address -> path and when it is forgotten, in the order of their last use."""


class Affinity:
    """Client address -> path, for ``timeout`` seconds after the client's last new connection.

    A client is a newcomer until a connection of its has been established, and newcomers are limited
    apart: a flood of forged addresses pushes out other newcomers and nobody else. When full, the client
    not heard of for longest is forgotten and is simply scheduled anew.
    """

    __slots__ = ("_newcomers", "_regulars", "limit", "newcomers", "timeout")

    def __init__(self, timeout: float, limit: int, newcomers: int) -> None:
        """
        Args:
            timeout: seconds.
            limit: how many clients with an established connection are remembered.
            newcomers: how many others.
        """
        self.timeout = timeout
        self.limit = limit
        self.newcomers = newcomers
        self._regulars: Final[_Clients] = OrderedDict()
        self._newcomers: Final[_Clients] = OrderedDict()

    def __len__(self) -> int:
        return len(self._regulars) + len(self._newcomers)

    def find(self, client: bytes, now: float) -> Path | None:
        """The client's path if it is remembered and takes new connections."""
        for clients in (self._regulars, self._newcomers):
            entry = clients.get(client)
            if entry is None:
                continue
            path, expires = entry
            if expires > now and path.usable:
                return path
            del clients[client]
        return None

    def recall(self, client: bytes, now: float) -> tuple[Path, float] | None:
        """What ``find`` would find, and for how many seconds it is remembered. Nothing is forgotten."""
        for clients in (self._regulars, self._newcomers):
            path, expires = clients.get(client, (None, 0.0))
            if path is not None and expires > now and path.usable:
                return path, expires - now
        return None

    def remembered(self, now: float) -> Iterator[tuple[bytes, Path, float]]:
        """Clients, their paths and for how many seconds: newcomers first, and of each kind who was not
        heard of for longest."""
        for clients in (self._newcomers, self._regulars):
            for client, (path, expires) in clients.items():
                if expires > now:
                    yield client, path, expires - now

    def begin(self, client: bytes, path: Path, now: float) -> None:
        """A connection of this client began on this path."""
        if client in self._regulars:
            self._keep(self._regulars, self.limit, client, path, now)
        else:
            self._keep(self._newcomers, self.newcomers, client, path, now)

    def establish(self, client: bytes, path: Path, now: float) -> None:
        """Its address is not forged: the client has gone on with a connection that was answered, on this
        path. If another one has begun meanwhile, that one's counts."""
        last = self._newcomers.pop(client, None) or self._regulars.get(client)
        if last is not None and last[1] > now:
            path = last[0]
        self._keep(self._regulars, self.limit, client, path, now)

    def _keep(self, clients: _Clients, limit: int, client: bytes, path: Path, now: float) -> None:
        """Expired ones are at the front."""
        clients[client] = (path, now + self.timeout)
        clients.move_to_end(client)
        while clients:
            oldest = next(iter(clients))
            if len(clients) <= limit and clients[oldest][1] > now:
                break
            del clients[oldest]
