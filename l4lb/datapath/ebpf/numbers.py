"""Who has which number: services, backends, and the paths from the one to the other. Pure.

The programs know all three by small numbers, which are in every connection's key or value. So a number
stays with its owner through every change of the plan and, read back from the pinned maps, through a
restart of the daemon, and a path's is given to another one only when no connection has it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from l4lb.model import Endpoint, Nat, Plan

SERVICES: Final = 4_096
BACKENDS: Final = 65_535
PATHS: Final = 65_536

Socket = tuple[int, Endpoint]
"""A VIP or a backend with its protocol."""


class Way(NamedTuple):
    """Which service, which of its backends, and how: what a path is for."""

    protocol: int
    vip: Endpoint
    backend: Endpoint
    full_nat: bool


@dataclass(frozen=True, slots=True)
class NumberedPath:
    """A path that has a number."""

    number: int
    way: Way
    snat: bytes = b""  # full NAT: the address its backend sees; empty while there is none
    gone: bool = False  # its connections are to be reset


class OutOfNumbers(Exception):
    """The plan needs more numbers than are free. The message is one line for people."""


class Pool:
    """Numbers from 0 to ``size`` - 1, given out in turn: the one given back last is taken last, as some
    map of the programs may remember it for a while."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = 0
        self._used: set[int] = set()

    @property
    def room(self) -> int:
        """How many are free."""
        return self._size - len(self._used)

    def claim(self, number: int) -> None:
        """It is in use already."""
        self._used.add(number)

    def take(self) -> int:
        """A free number; there must be one."""
        number = self._next % self._size
        while number in self._used:
            number = (number + 1) % self._size
        self._next = number + 1
        self._used.add(number)
        return number

    def give_back(self, number: int) -> None:
        """It is free."""
        self._used.remove(number)

    def begin_anywhere(self, random: Random) -> None:
        """Look for the next free one from a place drawn at random."""
        self._next = random.randrange(self._size)


class Numbers:
    """The numbers of one datapath.

    Attributes:
        paths: those of the plan.
        retired: those that were in the plan, which connections may still have, by number.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self.paths: dict[Way, NumberedPath] = {}
        self.retired: dict[int, NumberedPath] = {}
        self.services: dict[Socket, int] = {}
        self.backends: dict[Socket, int] = {}
        self._service_numbers = Pool(SERVICES)
        self._backend_numbers = Pool(BACKENDS)
        self._path_numbers = Pool(PATHS)
        self._planned_services: set[Socket] = set()
        self._planned_backends: set[Socket] = set()
        self._needed_services: set[Socket] = set()  # planned, or still in the maps
        self._needed_backends: set[Socket] = set()

    def adopt(
        self,
        services: Mapping[Socket, int],
        backends: Mapping[Socket, int],
        paths: Iterable[NumberedPath],
        retired: Iterable[NumberedPath],
    ) -> None:
        """Begin with what is in the maps, which a daemon before has left."""
        for sockets, owners, pool in (
            (services, self.services, self._service_numbers),
            (backends, self.backends, self._backend_numbers),
        ):
            for socket, number in sockets.items():
                owners[socket] = number
                pool.claim(number)
        self._needed_services, self._needed_backends = set(services), set(backends)
        for path in paths:
            self._path_numbers.claim(path.number)
            if path.way in self.paths:  # it was stopped between two writes
                self._retire(path.way, gone=False)
            self.paths[path.way] = path
        for path in retired:
            self._path_numbers.claim(path.number)
            self.retired[path.number] = path
        if not self.services and not self.backends:
            return
        # Which ones were given back last is not known: most likely none of a place drawn at random.
        for pool in (self._service_numbers, self._backend_numbers, self._path_numbers):
            pool.begin_anywhere(self._random)

    def update(self, plan: Plan) -> None:
        """Give numbers to all of the plan, and retire the paths that it has no more. Services and backends
        that it has no more keep theirs until it is ``in_force``: packets may still be given to them.

        Raises:
            OutOfNumbers: there are not enough; nothing has changed.
        """
        services = {(int(service.protocol), service.address) for service in plan.services}
        wanted: dict[Way, bytes] = {}
        for service in plan.services:
            full = service.nat is Nat.FULL
            for backend in service.backends:
                way = Way(service.protocol, service.address, backend.address, full)
                wanted[way] = (backend.snat or b"") if full else b""
        backends = {(way.protocol, way.backend) for way in wanted}
        renewed = [way for way, snat in wanted.items() if self._is_another(way, snat)]
        _require(SERVICES, "services", self._service_numbers, len(services - self.services.keys()))
        _require(BACKENDS, "backends", self._backend_numbers, len(backends - self.backends.keys()))
        _require(PATHS, "pairs of service and backend", self._path_numbers, len(renewed))

        for way in self.paths.keys() - wanted.keys():
            self._retire(way, gone=True)
        for way in self.paths.keys() & set(renewed):
            # Its connections go on: their backend knows them by the address that they have.
            self._retire(way, gone=False)
        for socket in sorted(services - self.services.keys()):
            self.services[socket] = self._service_numbers.take()
        for socket in sorted(backends - self.backends.keys()):
            self.backends[socket] = self._backend_numbers.take()
        for way, snat in wanted.items():
            known = self.paths.get(way)
            if known is None:
                self.paths[way] = NumberedPath(self._path_numbers.take(), way, snat)
            elif snat:
                self.paths[way] = NumberedPath(known.number, way, snat)
        self._planned_services, self._planned_backends = services, backends
        self._needed_services |= services
        self._needed_backends |= backends

    def in_force(self) -> None:
        """What the last plan has no more is in the maps no more."""
        self._needed_services, self._needed_backends = self._planned_services, self._planned_backends
        self._give_back()

    def superseded(self) -> set[int]:
        """Retired paths whose way goes on by another path, with another address of full NAT: what they have
        counted is their backend's."""
        return {number for number, path in self.retired.items() if not path.gone and path.way in self.paths}

    def to_free(self, unused: Set[int]) -> Set[int]:
        """Of paths without connections those to be freed: as long as there is room, none whose counts would
        be missed."""
        return unused if self._path_numbers.room < PATHS // 2 else unused - self.superseded()

    def free(self, numbers: Iterable[int]) -> None:
        """No connection has these retired paths any more."""
        for number in numbers:
            del self.retired[number]
            self._path_numbers.give_back(number)
        self._give_back()

    def _is_another(self, way: Way, snat: bytes) -> bool:
        known = self.paths.get(way)
        return known is None or bool(snat and known.snat and snat != known.snat)

    def _retire(self, way: Way, *, gone: bool) -> None:
        path = self.paths.pop(way)
        self.retired[path.number] = NumberedPath(path.number, way, path.snat, gone)

    def _give_back(self) -> None:
        """Services and backends that no plan since the one in force has, nor a path, have no number."""
        ways = [path.way for path in self.retired.values()]
        for owners, needed, pool in (
            (
                self.services,
                self._needed_services | {(way.protocol, way.vip) for way in ways},
                self._service_numbers,
            ),
            (
                self.backends,
                self._needed_backends | {(way.protocol, way.backend) for way in ways},
                self._backend_numbers,
            ),
        ):
            for socket in owners.keys() - needed:
                pool.give_back(owners.pop(socket))


def _require(size: int, what: str, pool: Pool, more: int) -> None:
    if more > pool.room:
        raise OutOfNumbers(
            f"more than {size:,} {what} at a time, counting removed ones that still have connections"
        )
