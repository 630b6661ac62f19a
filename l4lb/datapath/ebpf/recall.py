"""What goes before the selection for a client, as the programs find it: ``datapath/bpf/affinity.h``."""

from __future__ import annotations

from collections.abc import Mapping

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.connections import Found, as_director_has_it, info
from l4lb.datapath.ebpf.established import find_established
from l4lb.datapath.ebpf.tables import Tables, ends_of
from l4lb.datapath.libbpf import Map
from l4lb.director.track import begins_again
from l4lb.model import Endpoint, Recalled


def recall(maps: Mapping[str, Map], tables: Tables, name: str, client: Endpoint, now: int) -> Recalled:
    """Of a client of the service called ``name``, at ``now`` in ns."""
    service = tables.services.get(name)
    if service is None or client.version != service.address.version:
        return Recalled()
    number = tables.numbers.services[service.protocol, service.address]
    last = _last(maps, tables, number, client, now) if service.affinity_timeout else ()
    return Recalled(_connected(maps, tables, number, client, now), *last)


def _connected(
    maps: Mapping[str, Map], tables: Tables, number: int, client: Endpoint, now: int
) -> Endpoint | None:
    """The backend of the connection that goes on with the next packet from the client's port."""
    key = layout.end_key(client.ip, client.port, number)
    connection = find_established(maps, tables.settings, key)
    if connection is None:
        value = maps[f"half_open{client.version}"].lookup(key)
        connection = None if value is None else layout.CONNECTION.unpack(value)
    path = None if connection is None else tables.paths.get(connection.path)
    if connection is None or path is None:
        return None
    found = Found(client, connection, path, "")
    if not info(found, tables.timeouts, now).expires or begins_again(as_director_has_it(found)):
        return None
    return ends_of(path)[1]


def _last(
    maps: Mapping[str, Map], tables: Tables, number: int, client: Endpoint, now: int
) -> tuple[Endpoint, float] | tuple[()]:
    """The backend of its last connection, if it takes new ones, and for how many seconds that counts."""
    key = layout.end_key(client.ip, 0, number)
    for table in ("affinities", "newcomers"):
        value = maps[f"{table}{client.version}"].lookup(key)
        if value is None:
            continue
        last = layout.AFFINITY.unpack(value)
        path = tables.paths.get(last.path)
        if last.until > now and path and path.flags & layout.PATH_USABLE and path.service == number:
            return ends_of(path)[1], (last.until - now) / 1e9
    return ()
