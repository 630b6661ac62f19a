"""Source ports for translated connections.

The connection table is the allocator: a port is free if no connection has the reply tuple that it
would make, so one port serves any number of backends at a time (RFC 4787 calls this
address-and-port-dependent; nf_nat_core.c does the same). Where none is free, a connection gives up its
port that is over (TIME_WAIT of a busy service would hold them all, nf_nat_used_tuple_harder()) or
half-open for long (a SYN flood would).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from l4lb.director.connection import Connection, tuple_key
from l4lb.model import Endpoint

TRIES: Final = 128
"""Ports looked at before giving up. A range that is 95% taken fails once in 700 connections."""


def allocate(
    flows: Mapping[bytes, Connection],
    source: bytes,
    backend: Endpoint,
    ports: tuple[int, int],
    random: Random,
    gives_way: Callable[[Connection], bool],
    is_service: Callable[[int], bool],
) -> Endpoint | None:
    """A source endpoint whose tuple towards ``backend`` no connection of ``flows`` has, or only one
    that ``gives_way``; None if none was found. A port that ``is_service`` of the same address is left out:
    the answers would be taken for its clients' packets.

    Starts at a random port (RFC 6056 3.3.1) within ``ports``, both inclusive, and walks on from
    there.
    """
    low, high = ports
    size = high - low + 1
    start = random.randrange(size)
    # A flood makes this the dearest step of all: no objects here, only the bytes of the tuple.
    towards_backend = tuple_key(backend, Endpoint(source, 0))[:-2]
    spare: Endpoint | None = None
    for step in range(min(TRIES, size)):
        port = low + (start + step) % size
        if is_service(port):
            continue
        holder = flows.get(towards_backend + port.to_bytes(2, "big"))
        if holder is None:
            return Endpoint(source, port)
        if spare is None and gives_way(holder):
            spare = Endpoint(source, port)
    return spare
