"""Client affinity: a client's next connection goes where its last one went."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from l4lb.director.connection import Path
from l4lb.model import Endpoint

_Clients = OrderedDict[bytes, tuple[Path, float]]
"""Service and client's address -> path and when it is forgotten, in the order of their last use."""


class Clients:
    """The clients that are remembered, of all services of one version of IP.

    A client is a newcomer until a connection of its has been established, and newcomers are limited
    apart: a flood of forged addresses pushes out other newcomers and nobody else. When full, the client
    not heard of for longest is forgotten and is simply scheduled anew.
    """

    __slots__ = ("_newcomers", "_regulars", "limit", "newcomers")

    def __init__(self, limit: int, newcomers: int) -> None:
        """
        Args:
            limit: how many clients with an established connection are remembered.
            newcomers: how many others.
        """
        self.limit = limit
        self.newcomers = newcomers
        self._regulars: Final[_Clients] = OrderedDict()
        self._newcomers: Final[_Clients] = OrderedDict()

    def __len__(self) -> int:
        return len(self._regulars) + len(self._newcomers)

    def find(self, key: bytes, now: float) -> Path | None:
        """The client's path if it is remembered and takes new connections."""
        for clients in (self._regulars, self._newcomers):
            entry = clients.get(key)
            if entry is None:
                continue
            path, expires = entry
            if expires > now and path.usable:
                return path
            del clients[key]
        return None

    def recall(self, key: bytes, now: float) -> tuple[Path, float] | None:
        """What ``find`` would find, and for how many seconds it is remembered. Nothing is forgotten."""
        for clients in (self._regulars, self._newcomers):
            path, expires = clients.get(key, (None, 0.0))
            if path is not None and expires > now and path.usable:
                return path, expires - now
        return None

    def remembered(self, now: float) -> Iterator[tuple[bytes, Path, float]]:
        """Clients' addresses, their paths and for how many seconds: newcomers first, and of each kind who
        was not heard of for longest."""
        for clients in (self._newcomers, self._regulars):
            for key, (path, expires) in clients.items():
                if expires > now:
                    yield key[-len(path.vip.ip) :], path, expires - now

    def begin(self, key: bytes, path: Path, now: float, expires: float) -> None:
        """A connection of this client began on this path."""
        if key in self._regulars:
            self._keep(self._regulars, self.limit, key, path, now, expires)
        else:
            self._keep(self._newcomers, self.newcomers, key, path, now, expires)

    def establish(self, key: bytes, path: Path, now: float, expires: float) -> None:
        """Its address is not forged: the client has gone on with a connection that was answered, on this
        path. If another one has begun meanwhile, that one's counts."""
        last = self._newcomers.pop(key, None) or self._regulars.get(key)
        if last is not None and last[1] > now:
            path = last[0]
        self._keep(self._regulars, self.limit, key, path, now, expires)

    @staticmethod
    def _keep(clients: _Clients, limit: int, key: bytes, path: Path, now: float, expires: float) -> None:
        """Expired ones are at the front, or behind such of services with a longer timeout."""
        clients[key] = (path, expires)
        clients.move_to_end(key)
        while clients:
            oldest = next(iter(clients))
            if len(clients) <= limit and clients[oldest][1] > now:
                break
            del clients[oldest]


class Affinity:
    """Of one service: client address -> path, for ``timeout`` seconds after the client's last new
    connection."""

    __slots__ = ("_clients", "_service", "timeout")

    def __init__(self, timeout: float, clients: Clients, vip: Endpoint, protocol: int) -> None:
        """
        Args:
            timeout: seconds.
            clients: those of all services, among which this one's are.
            vip: the service's,
            protocol: and its protocol's number.
        """
        self.timeout = timeout
        self._clients = clients
        self._service = bytes((protocol,)) + vip.port.to_bytes(2, "big") + vip.ip

    def find(self, client: bytes, now: float) -> Path | None:
        """The client's path if it is remembered and takes new connections."""
        return self._clients.find(self._service + client, now)

    def recall(self, client: bytes, now: float) -> tuple[Path, float] | None:
        """What ``find`` would find, and for how many seconds it is remembered. Nothing is forgotten."""
        return self._clients.recall(self._service + client, now)

    def begin(self, client: bytes, path: Path, now: float) -> None:
        """A connection of this client began on this path."""
        self._clients.begin(self._service + client, path, now, now + self.timeout)

    def establish(self, client: bytes, path: Path, now: float) -> None:
        """A connection of this client, on this path, was answered and has gone on."""
        self._clients.establish(self._service + client, path, now, now + self.timeout)
