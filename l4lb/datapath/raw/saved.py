"""Connections between a stop and a start: written to a file, read back, matched with the plan.

A stream of msgpack values: a header, then one array a connection, then one for each client that affinity
remembers. Times are kept as idle seconds plus the moment of saving on the clock that goes on while the
machine sleeps; after a reboot nothing in the file is worth having. Only root can write beside the socket,
but the file is still read as data that may be damaged: what does not fit is left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import msgpack

from l4lb.director.connection import Ends, make_connection
from l4lb.director.connection import Path as Way
from l4lb.director.director import Director
from l4lb.director.states import HALF_OPEN
from l4lb.files import replacing
from l4lb.model import Endpoint, Nat, Protocol, State

_FORMAT = "l4lb connections 1"
_SHAPE = (int, bytes, bytes, int, float, int | None, int | None, int)
_CLIENT_SHAPE = (int, bytes, int, bytes, int, bytes, float)  # protocol, VIP, backend, client, seconds left
_STATES = frozenset(State) - HALF_OPEN
_LIVE = frozenset({State.ESTABLISHED, State.CLIENT_FIN, State.BACKEND_FIN})
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def save(director: Director, path: Path, now: float) -> int:
    """Write all connections that are more than half-open.

    Returns:
        How many of them are live.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    with replacing(path) as file:
        _write(director, file, now)
    return live(director)


def live(director: Director) -> int:
    """How many connections are TCP and not over: those that a stray packet of the host could end."""
    return sum(connection.state in _LIVE for connection in director.table)


def _write(director: Director, file: BinaryIO, now: float) -> None:
    pack = msgpack.Packer().pack
    file.write(pack([_FORMAT, _BOOT_ID.read_text(), time.clock_gettime(time.CLOCK_BOOTTIME)]))
    for connection in director.table:
        if connection.state in HALF_OPEN:
            continue
        file.write(
            pack(
                [
                    int(connection.path.protocol),
                    connection.original,
                    connection.reply,
                    int(connection.state),
                    now - connection.seen,
                    connection.acked_by_client,
                    connection.acked_by_backend,
                    connection.shifts,
                ]
            )
        )

    for clients in director.services.clients.values():
        for client, to, left in clients.remembered(now):
            backend, vip = to.address, to.vip
            file.write(pack([int(to.protocol), vip.ip, vip.port, backend.ip, backend.port, client, left]))


def restore(director: Director, path: Path, now: float) -> tuple[int, int]:
    """Read the file, if it is there, and remove it: (connections restored, left out)."""
    try:
        file = path.open("rb", buffering=1 << 20)
    except FileNotFoundError:
        return 0, 0
    restored = left_out = 0
    with file:
        path.unlink()
        for record, age in _records(msgpack.Unpacker(file, raw=False)):
            if _is_client(record):
                _remember_one(director, record, age, now)
            elif _restore_one(director, record, age, now):
                restored += 1
            else:
                left_out += 1
    return restored, left_out


def _records(unpacker: msgpack.Unpacker) -> Iterator[tuple[object, float]]:
    """Each value behind the header, and the seconds since the file was written."""
    try:
        header = next(unpacker, None)
        if not isinstance(header, list) or header[:2] != [_FORMAT, _BOOT_ID.read_text()]:
            return
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - header[2]
        if not 0 <= age < math.inf:
            return
        for record in unpacker:
            yield record, age
    except (ValueError, TypeError, IndexError, msgpack.UnpackException):
        return


def _restore_one(director: Director, record: object, age: float, now: float) -> bool:
    if not _is_connection(record):
        return False
    protocol, original, reply, state, idle, by_client, by_backend, shifts = record
    ends = Ends(original, reply)
    path = director.services.find_path(protocol, ends.vip, ends.backend)
    if path is None or not path.alive or not _fits(path, ends, director.plan.snat_ports):
        return False
    connection = make_connection(path, ends.client, ends.source, State(state), now - idle - age)
    connection.acked_by_client, connection.acked_by_backend = by_client, by_backend
    connection.shifts = shifts
    return director.restore(connection, now)


def _fits(way: Way, ends: Ends, snat_ports: tuple[int, int]) -> bool:
    """True if the backend's packets would be taken: the service may have another kind of NAT by now, or
    other source ports."""
    if way.nat is Nat.FULL:
        low, high = snat_ports
        return ends.source.ip == way.snat and low <= ends.source.port <= high
    return ends.source.ip == ends.client.ip


def _remember_one(director: Director, record: list[Any], age: float, now: float) -> None:
    protocol, vip, vip_port, backend, backend_port, client, left = record
    state = director.services.at(protocol, vip, vip_port)
    if state is None or state.affinity is None or len(client) != len(vip):
        return
    path = state.paths.get(Endpoint(backend, backend_port))
    if path is not None and left > age:
        timeout = state.affinity.timeout
        state.affinity.establish(client, path, now + min(left - age, timeout) - timeout)


def _is_client(record: object) -> TypeGuard[list[Any]]:
    """True if it can be a client that affinity remembers."""
    return (
        _has_shape(record, _CLIENT_SHAPE)
        and all(len(ip) in (4, 16) for ip in (record[1], record[3], record[5]))
        and all(0 <= port <= 0xFFFF for port in (record[2], record[4]))
        and 0 < record[6] < math.inf
    )


def _is_connection(record: object) -> TypeGuard[list[Any]]:
    """True if every value is one that a connection can have."""
    if not _has_shape(record, _SHAPE):
        return False
    protocol, original, reply, state, idle, by_client, by_backend, shifts = record
    return (
        state in _STATES
        and (state == State.UDP) == (protocol == Protocol.UDP)
        and len(original) in (12, 36)
        and len(reply) == len(original)
        and 0 <= idle < math.inf
        and all(number is None or 0 <= number <= 0xFFFF_FFFF for number in (by_client, by_backend))
        and 0 <= shifts <= 0xFF
    )


def _has_shape(record: object, shape: Sequence[Any]) -> TypeGuard[list[Any]]:
    """True for a list of values of these types."""
    return isinstance(record, list) and len(record) == len(shape) and all(map(isinstance, record, shape))
