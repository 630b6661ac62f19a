"""Client affinity: a client's next connection goes where its last one went."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from l4lb.director.connection import Path


class Affinity:
    """Client address -> path, for ``timeout`` seconds after the client's last new connection.

    Bounded: when full, the client not heard of for longest is forgotten and is simply scheduled
    anew. Entries are in the order of their last use, so expired ones are at the front.
    """

    __slots__ = ("_clients", "limit", "timeout")

    def __init__(self, timeout: float, limit: int) -> None:
        self.timeout = timeout
        self.limit = limit
        self._clients: OrderedDict[bytes, tuple[Path, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    def find(self, client: bytes, now: float) -> Path | None:
        """The client's path if it is remembered and takes new connections."""
        entry = self._clients.get(client)
        if entry is None:
            return None
        path, expires = entry
        if expires <= now or not path.usable:
            del self._clients[client]
            return None
        return path

    def remembered(self, now: float) -> Iterator[tuple[bytes, Path, float]]:
        """Clients, their paths and for how many seconds, who was not heard of for longest first."""
        for client, (path, expires) in self._clients.items():
            if expires > now:
                yield client, path, expires - now

    def remember(self, client: bytes, path: Path, now: float) -> None:
        """A connection of this client began on this path."""
        clients = self._clients
        clients[client] = (path, now + self.timeout)
        clients.move_to_end(client)
        while clients:
            oldest = next(iter(clients))
            if len(clients) <= self.limit and clients[oldest][1] > now:
                break
            del clients[oldest]
