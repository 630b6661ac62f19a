"""The connections of the programs, as the daemon asks for them: to show, to count, to forget.

``datapath/bpf/query.c`` looks at each entry inside the kernel and hands over only what was asked for. It
pauses every few thousand entries, so packets and the daemon's other work go on beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from struct import Struct
from typing import Final, NamedTuple

from l4lb.datapath.base import ConnectionFilter
from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.ebpf.tables import Tables, ends_of
from l4lb.datapath.libbpf import Map, Program, iterate
from l4lb.director import answer
from l4lb.director import connection as director
from l4lb.director.states import REUSABLE
from l4lb.model import BackendPlan, ConnectionInfo, Endpoint, Nat, Protocol, State
from l4lb.wire.frame import IP

_QUERY: Final = Struct("=16sIIBBBx")
"""struct query: client, states, records, version, by_path, take."""

_WALKS: Final = 4
"""How often a map is gone through at most until nothing is left to be taken: for each entry that was
deleted the kernel's iterator skips another one where it goes on after a pause
(bpf_hash_map_seq_find_next() in kernel/bpf/hashtab.c)."""

_HALF: Final = 1 << 63

_COUNTED: Final = b"\1"
_FOUND: Final = b"\2"
_RECORD_SIZE: Final = layout.END_SIZE + layout.CONNECTION.size

EVERY_STATE: Final = (1 << len(State)) - 1
EVERY_RECORD: Final = 0xFFFF_FFFF

_ORDER: Final = (
    ("ask_half_open4", "half_open4"),
    ("ask_half_open6", "half_open6"),
    ("ask4", "blocks"),
    ("ask6", "connections6"),
)


@dataclass(frozen=True, slots=True)
class Query:
    """Which connections. None matches all."""

    paths: frozenset[int] | None = None
    client: bytes | None = None  # packed address
    states: int = EVERY_STATE  # a bit for each
    take: bool = False  # forget what is found
    gone: bool = False  # of the paths only those whose connections are to be reset now
    records: int = EVERY_RECORD  # how many to hand over; the others are only counted


class Found(NamedTuple):
    """A connection in the maps."""

    client: Endpoint
    connection: layout.Connection
    path: layout.Path
    service: str


class Connections:
    """Asks. Several queries may be under way, each a piece at a time; not for two threads."""

    def __init__(self, maps: Mapping[str, Map], programs: Mapping[str, Program], tables: Tables) -> None:
        """``maps`` and ``programs`` are those of query.c."""
        self._maps = maps
        self._programs = programs
        self._tables = tables
        self._asked: frozenset[int] | None = None  # the paths that are marked, if that is known

    def query(self, which: ConnectionFilter, *, records: int = EVERY_RECORD, take: bool = False) -> Query:
        """The query for a filter."""
        paths = None
        if which.service is not None or which.backend is not None:
            paths = frozenset(
                number
                for number, path in self._tables.paths.items()
                if (which.service is None or self._service(path) == which.service)
                and (which.backend is None or ends_of(path)[1] == which.backend)
            )
        return Query(paths, which.client, take=take, records=min(records, EVERY_RECORD))

    def ask(self, query: Query) -> Generator[tuple[list[Found], int]]:
        """The connections that match, in pieces as the kernel hands them over, each with how many more
        matched that were only counted. With ``take`` those of a piece, and few more, are forgotten."""
        version = {0: "", 4: "4", 16: "6"}[len(query.client or b"")]
        for program, over in _ORDER:
            if program.endswith(version):
                for _ in range(_WALKS if query.take else 1):
                    left = query.records
                    query = yield from self._walk(program, over, query)
                    if query.records == left:
                        break

    def _walk(
        self, program: str, over: str, query: Query
    ) -> Generator[tuple[list[Found], int], None, Query]:
        """Once through a map; the query for what is left of its records."""
        pieces = iterate(self._programs[program], self._maps[over])
        rest = b""
        while True:
            # Before each piece: there may have been one of another query in between.
            self._put(query)
            written = next(pieces, b"")
            query = replace(query, records=self._records_left())
            if not written:
                return query
            records, counted, rest = _records(rest + written)
            yield [each for each in map(self._found, records) if each is not None], counted

    def _put(self, query: Query) -> None:
        if query.paths is not None:
            self._mark(frozenset(filter(self._is_gone, query.paths)) if query.gone else query.paths)
        client = query.client or b""
        version = {0: 0, 4: 4, 16: 6}[len(client)]
        by_path = query.paths is not None
        packed = _QUERY.pack(layout.wide(client), query.states, query.records, version, by_path, query.take)
        self._maps["queries"].update(word(0), packed)

    def _records_left(self) -> int:
        return int(_QUERY.unpack(self._maps["queries"].lookup(word(0)) or b"")[2])

    def _is_gone(self, number: int) -> bool:
        """A backend may be back before all of its connections were found, and has new ones."""
        path = self._tables.paths.get(number)
        return path is not None and bool(path.flags & layout.PATH_GONE)

    def _mark(self, paths: frozenset[int]) -> None:
        if paths == self._asked:
            return
        # What a daemon before has asked for is still marked.
        marked = self._marked() if self._asked is None else self._asked
        changes = [(word(number), word(0)) for number in marked - paths]
        changes += [(word(number), word(1)) for number in paths - marked]
        self._asked = None  # should the write fail
        if changes:
            self._maps["asked"].update_batch(changes)
        self._asked = paths

    def _marked(self) -> frozenset[int]:
        marks = self._maps["asked"].items()
        return frozenset(int.from_bytes(key, sys.byteorder) for key, mark in marks if any(mark))

    def _service(self, path: layout.Path) -> str:
        """Its name; of one that was removed before this daemon came, its VIP."""
        return self._tables.names.get(path.service) or str(ends_of(path)[0])

    def _found(self, record: bytes) -> Found | None:
        connection = layout.CONNECTION.unpack(record[layout.END_SIZE :])
        path = self._tables.paths.get(connection.path)
        if path is None:
            return None
        ip, port, _ = layout.read_end(record[: layout.END_SIZE])
        client = Endpoint(layout.narrow(ip, path.version), port)
        return Found(client, connection, path, self._service(path))


def _records(data: bytes) -> tuple[list[bytes], int, bytes]:
    """What the program wrote: records, how many are only counted, and the begin of a record whose end
    comes with the next piece."""
    records: list[bytes] = []
    counted = at = 0
    while (mark := data.find(_FOUND, at)) >= 0:
        counted += data.count(_COUNTED, at, mark)
        end = mark + 1 + _RECORD_SIZE
        if end > len(data):
            return records, counted, data[mark:]
        records.append(data[mark + 1 : end])
        at = end
    return records, counted + data.count(_COUNTED, at), b""


def info(found: Found, timeouts: tuple[int, ...], now: int) -> ConnectionInfo:
    """For people. ``timeouts`` by state and ``now`` in ns."""
    vip, backend, _ = ends_of(found.path)
    # Of one that is doubted (track.h) the clock may not have been as far: less than 0, unsigned.
    idle = (now - found.connection.seen + _HALF) % (2 * _HALF) - _HALF
    return ConnectionInfo(
        service=found.service,
        protocol=Protocol(found.path.protocol),
        client=found.client,
        vip=vip,
        source=_source(found),
        backend=backend,
        state=State(found.connection.state),
        idle=max(0.0, idle / 1e9),
        expires=max(0.0, (timeouts[found.connection.state] - idle) / 1e9),
    )


def resets(connections: Iterable[Found]) -> Iterator[tuple[bytes, bytes]]:
    """The RSTs that end TCP connections from the middle, but for those whose ends know that they are over:
    destination's address and IP packet."""
    for found in connections:
        if found.path.protocol != Protocol.TCP or found.connection.state in REUSABLE:
            continue
        connection = as_director_has_it(found)
        ends = director.Ends(connection.original, connection.reply)
        for to_client, frame in answer.resets(connection):
            yield (ends.client.ip if to_client else ends.backend.ip), bytes(frame[IP:])


def _source(found: Found) -> Endpoint:
    """What the backend sees."""
    snat = ends_of(found.path)[2]
    return Endpoint(snat or found.client.ip, int.from_bytes(found.connection.source_port, "big"))


def as_director_has_it(found: Found) -> director.Connection:
    """The same connection in the director's words."""
    vip, backend, snat = ends_of(found.path)
    plan = BackendPlan(backend, bool(found.path.flags & layout.PATH_ALIVE), snat or None)
    nat = Nat.FULL if found.path.flags & layout.PATH_FULL_NAT else Nat.DESTINATION
    path = director.Path(found.service, vip, Protocol(found.path.protocol), nat, plan)
    path.reset_when_down = bool(found.path.flags & layout.PATH_GONE)
    known = found.connection
    connection = director.make_connection(path, found.client, _source(found), State(known.state), 0.0)
    if known.flags & layout.SEEN_BY_CLIENT:
        connection.acked_by_client = known.acked_by_client
    if known.flags & layout.SEEN_BY_BACKEND:
        connection.acked_by_backend = known.acked_by_backend
    return connection
