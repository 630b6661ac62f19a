"""What is to be in the maps for a plan. Pure: ``tables.py`` writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.numbers import NumberedPath, Numbers, Way
from l4lb.director.states import timeouts_by_state
from l4lb.model import BackendPlan, Endpoint, Nat, Plan, Selection, ServicePlan, Table, WhenBackendDown

NOBODYS: Final = (0xFFFF, layout.NO_PATH)
"""A service's and a path's number that none has."""


@dataclass(slots=True)
class Contents:
    """Map by map. Services and backends are by their end, as ``end_key`` makes it; of these and of
    addresses, the length says whether it is of IPv4 or IPv6. A path's hop is the programs' own and left
    out of ``paths``."""

    services: dict[bytes, layout.Service] = field(default_factory=dict)
    backends: dict[bytes, layout.Backend] = field(default_factory=dict)
    addresses: set[bytes] = field(default_factory=set)
    paths: dict[int, layout.Path] = field(default_factory=dict)
    selections: dict[int, tuple[int, ...]] = field(default_factory=dict)  # by the service's number
    costs: dict[int, int] = field(default_factory=dict)  # by path, of services that choose by costs


def contents(plan: Plan, numbers: Numbers, before: Mapping[bytes, layout.Backend]) -> Contents:
    """For a plan that ``numbers`` was updated with. ``before``: the backends that are in the maps."""
    made = Contents()
    flags: dict[Way, int] = {}
    ways: dict[bytes, list[Way]] = {}
    for service in plan.services:
        number = numbers.services[service.protocol, service.address]
        chosen = service.selection.chosen
        for index, backend in enumerate(service.backends):
            way = _way(service, backend)
            flags[way] = _flags(service, alive=backend.alive) | layout.PATH_FULL_NAT * way.full_nat
            path = numbers.paths[way]
            usable = layout.PATH_USABLE * (index in chosen)
            made.paths[path.number] = _path(numbers, path, flags[way] | usable)
            ways.setdefault(_socket_key(service.protocol, backend.address), []).append(way)
        made.services |= service_entry(service, numbers)
        made.selections[number] = _words(service.selection, _paths(service, numbers))
        made.costs |= costs(service, numbers)
    for path in numbers.retired.values():
        fate = layout.PATH_GONE if path.gone else flags.get(path.way, layout.PATH_GONE)
        full_nat = layout.PATH_FULL_NAT * path.way.full_nat
        made.paths[path.number] = _path(numbers, path, fate | full_nat | layout.PATH_RETIRED)
        # Its packets are still to be told from others, until its connections are reset. Only what shows
        # a connection is: fragments and damaged packets are the host's.
        ways.setdefault(_socket_key(path.way.protocol, path.way.backend), [])
    for key, of_backend in ways.items():
        made.backends[key] = _backend(numbers, key, of_backend, before.get(key))
    in_use = (key for key, of_backend in ways.items() if of_backend)
    for key in (*made.services, *in_use):
        made.addresses.add(layout.end_key(key[:-4], 0, 0))
    return made


def settings(plan: Plan, before: layout.Settings) -> layout.Settings:
    """Those in force were ``before``."""
    timeouts = [round(seconds * 1e9) for seconds in timeouts_by_state(plan.timeouts)]
    return before._replace(
        timeouts=layout.TIMEOUTS.pack(*timeouts),
        established=min(plan.limits.established, before.pairs),
        first_port=plan.snat_ports[0],
        last_port=plan.snat_ports[1],
    )


def _flags(service: ServicePlan, *, alive: bool) -> int:
    if alive:
        return layout.PATH_ALIVE
    return layout.PATH_GONE if service.when_backend_down is WhenBackendDown.RESET else 0


def service_entry(service: ServicePlan, numbers: Numbers) -> dict[bytes, layout.Service]:
    """A value of services, by the VIP's key."""
    selection = service.selection
    table = isinstance(selection, Table)
    key = _socket_key(service.protocol, service.address)
    return {
        key: layout.Service(
            end=layout.wide_end(key),
            version=layout.version_of(key),
            kind=int(selection.key) if isinstance(selection, Table) else layout.KIND_COSTS,
            flags=layout.SERVICE_FULL_NAT if service.nat is Nat.FULL else 0,
            number=numbers.services[service.protocol, service.address],
            affinity=math.ceil(service.affinity_timeout),
            candidates=0 if table else min(selection.candidates, 0xFFFF),  # type: ignore[union-attr]
            idle=0 if table else selection.idle,  # type: ignore[union-attr]
        )
    }


def _way(service: ServicePlan, backend: BackendPlan) -> Way:
    return Way(service.protocol, service.address, backend.address, service.nat is Nat.FULL)


def _paths(service: ServicePlan, numbers: Numbers) -> list[int]:
    """By the backend's index."""
    return [numbers.paths[_way(service, backend)].number for backend in service.backends]


def _words(selection: Selection, paths: Sequence[int]) -> tuple[int, ...]:
    """What is chosen from: how many paths follow, and these."""
    if isinstance(selection, Table):
        return (len(selection.slots), *(paths[slot] for slot in selection.slots))
    return (len(selection.costs), *(paths[index] for index, _ in selection.costs))


def costs(service: ServicePlan, numbers: Numbers) -> dict[int, int]:
    """Values of costs, by path."""
    selection = service.selection
    if isinstance(selection, Table):
        return {}
    paths = _paths(service, numbers)
    return {paths[index]: cost | layout.HOT * (index in selection.hot) for index, cost in selection.costs}


def _path(numbers: Numbers, path: NumberedPath, flags: int) -> layout.Path:
    protocol, vip, backend, _ = path.way
    return layout.Path(
        hop=layout.NO_HOP,
        address=layout.wide(backend.ip),
        vip=layout.wide(vip.ip),
        snat=layout.wide(path.snat),
        port=backend.port.to_bytes(2, "big"),
        vip_port=vip.port.to_bytes(2, "big"),
        backend=numbers.backends[protocol, backend],
        service=numbers.services[protocol, vip],
        protocol=protocol,
        version=vip.version,
        flags=flags,
    )


def _backend(
    numbers: Numbers, key: bytes, ways: list[Way], before: layout.Backend | None
) -> layout.Backend:
    """A backend that several services have, or one with full NAT, is shared: of new connections there is
    an entry in reverse*. Those from before that have none are found by the service and the path that the
    backend had alone, which stay. Of one whose paths are all retired, nothing changes."""
    if not ways and before is not None:
        return before
    ip, port, protocol = layout.read_end(key)
    number = numbers.backends[protocol, Endpoint(ip, port)]
    own = [
        (numbers.services[protocol, way.vip], numbers.paths[way].number) for way in ways if not way.full_nat
    ]
    kept = (before.service, before.path) if before is not None else None
    service, path = kept if kept is not None and kept in own else (*own, NOBODYS)[0]
    shared = len(ways) != 1 or not own
    flags = layout.BACKEND_SHARED * shared
    return layout.Backend(layout.wide_end(key), layout.version_of(key), flags, number, service, path)


def _socket_key(protocol: int, socket: Endpoint) -> bytes:
    return layout.end_key(socket.ip, socket.port, protocol)
