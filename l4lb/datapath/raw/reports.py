"""What people and programs ask of a running director."""

from __future__ import annotations

from collections.abc import Collection, Generator
from heapq import heappush, heappushpop
from typing import Any

from l4lb.datapath.base import ConnectionFilter
from l4lb.director.connection import Connection, Ends, Path, tuple_key
from l4lb.director.director import Director
from l4lb.director.track import begins_again
from l4lb.model import (
    BackendKey,
    ConnectionInfo,
    Counters,
    DropReason,
    Endpoint,
    Load,
    Recalled,
    Traffic,
    Verdict,
)


def counters(director: Director, overruns: int, now: float) -> Counters:
    """All counters; ``overruns`` are the frames that the kernel dropped before us."""
    traffic = {}
    forwarded = closed = 0
    for path in director.services.paths():
        forwarded += path.packets_in + path.packets_out
        closed += path.closed
        traffic[path.service, path.address] = Traffic(
            connections_total=path.connections_total,
            half_open=path.half_open,
            established=path.established - path.closed,
            packets_in=path.packets_in,
            packets_out=path.packets_out,
            bytes_in=path.bytes_in,
            bytes_out=path.bytes_out,
            outstanding=path.outstanding,
            waiting=_waiting(path, now),
            resets=path.resets,
            retransmissions=path.retransmissions,
            unanswered=path.unanswered,
            confirmed=path.confirmed,
            handshakes=path.handshakes.read(),
            responses=path.responses.read(),
        )
    verdicts = dict(director.verdicts)
    # The fast path counts on the path only: one store less for each packet.
    verdicts[Verdict.FORWARD] = forwarded + director.services.forwarded_before
    drops = {reason: count for reason, count in director.drops.items() if count}
    if overruns:
        drops[DropReason.RECEIVE_OVERRUN] = overruns
    if director.table.evicted:
        drops[DropReason.HALF_OPEN_EVICTED] = director.table.evicted
    return Counters(
        backends=traffic,
        verdicts=verdicts,
        drops=drops,
        half_open=len(director.table.half_open),
        established=director.table.established - closed,
        remembered=closed,
    )


def loads(director: Director, services: Collection[str], now: float) -> dict[BackendKey, Load]:
    """How the backends of some services are doing."""
    return {
        (path.service, path.address): Load(
            half_open=path.half_open,
            established=path.established - path.closed,
            outstanding=path.outstanding,
            waiting=_waiting(path, now),
            answers=path.responses.count,
            answer_time=path.responses.total,
            confirmed=path.confirmed,
            resets=path.resets,
            retransmissions=path.retransmissions,
            unanswered=path.unanswered,
        )
        for path in director.services.paths()
        if path.service in services
    }


def recall(director: Director, name: str, client: Endpoint, now: float) -> Recalled:
    """What goes before the selection for a client of the service called ``name``."""
    service = next((each for each in director.services if each.plan.name == name), None)
    if service is None:
        return Recalled()
    key = tuple_key(client, service.plan.address)
    found = director.table.by_protocol[service.plan.protocol].get(key)
    goes_on = found is not None and found.original == key and not begins_again(found)
    connection = found.path.address if found is not None and goes_on else None
    last = None if service.affinity is None else service.affinity.recall(client.ip, now)
    return Recalled(connection) if last is None else Recalled(connection, last[0].address, last[1])


def _waiting(path: Path, now: float) -> float:
    return max(0.0, path.outstanding * now - path.asked)


def _matches(connection: Connection, which: ConnectionFilter) -> bool:
    path = connection.path
    if which.service is not None and path.service != which.service:
        return False
    if which.backend is not None and path.address != which.backend:
        return False
    client, original = which.client, connection.original
    return client is None or (len(original) == 2 * len(client) + 4 and original.startswith(client))


Job = Generator[list[ConnectionInfo], None, Any]
"""Work over the whole table, in steps between which packets are forwarded. It yields parts of the
answer, possibly empty, and returns its end."""

_STEP = 50
"""Connections looked at in one step: at most half a millisecond. Copying the references of the table
at the start takes 20 ms for a million."""


def connection_infos(director: Director, which: ConnectionFilter, limit: int, now: float) -> Job:
    """Up to ``limit`` connections that match, as parts, of more those with the latest packet; returns how
    many match."""
    latest: list[tuple[float, int, Connection]] = []  # a heap; no two have the same number
    total = 0
    for number, connection in enumerate(director.table):
        if number % _STEP == 0:
            yield []
        if connection.bucket is not None and _matches(connection, which):
            total += 1
            keep = heappush if total <= limit else heappushpop
            keep(latest, (connection.seen, number, connection))
    while latest:
        # From the end, a few at a time: to give back a million at once takes long, too.
        part = [latest.pop()[2] for _ in range(min(_STEP, len(latest)))]
        yield [_info(director, each, now) for each in part if each.bucket is not None]
    return total


def flush(director: Director, which: ConnectionFilter) -> Job:
    """Reset and forget the connections that match; returns how many."""
    count = 0
    for number, connection in enumerate(director.table):
        if number % _STEP == 0:
            yield []
        if connection.bucket is not None and _matches(connection, which):
            director.reset(connection)
            count += 1
    return count


def _info(director: Director, connection: Connection, now: float) -> ConnectionInfo:
    ends = Ends(connection.original, connection.reply)
    return ConnectionInfo(
        service=connection.path.service,
        protocol=connection.path.protocol,
        client=ends.client,
        vip=ends.vip,
        source=ends.source,
        backend=ends.backend,
        state=connection.state,
        idle=max(0.0, now - connection.seen),
        expires=max(0.0, director.table.expires(connection) - now),
    )
