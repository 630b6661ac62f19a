"""The maps that the daemon writes: brought to a plan by their differences, while packets pass.

Each write is seen by the next packet, so their order matters. What is pointed to comes before what
points to it: paths and their costs, then backends, selections, services, and of backends and services their
ends; and goes after it. A service whose kind of selection changes may for a moment choose from the new
paths in the old way, or the other way round: either gives a path of it.

Not for two threads at a time.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from typing import Final

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.contents import Contents, contents, service_entry, settings
from l4lb.datapath.ebpf.contents import costs as costs_of
from l4lb.datapath.ebpf.ends import Ends, size_for
from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.ebpf.numbers import NumberedPath, Numbers, OutOfNumbers, Socket, Way
from l4lb.datapath.libbpf import Map
from l4lb.director.lookup import reweighed
from l4lb.model import Costs, Endpoint, Plan, ServicePlan, Verdict

_ZERO = word(0)

_TABLES_AT_ONCE: Final = 64
"""Selections that are written together: each takes a file descriptor until then."""


class Tables:
    """What should be, as the programs see it.

    Attributes:
        numbers: who has which.
        names: of services, by number; those removed are here as long as they have connections.
        to_reset: paths whose connections are to be reset; who has done it takes them out.
    """

    def __init__(self, maps: Mapping[str, Map]) -> None:
        """Begins with what is in the maps: nothing, or what a daemon before has left."""
        self._maps = maps
        self._cpus = len(maps["verdicts"].lookup_percpu(_ZERO))
        self._present = Contents()
        self._services: dict[str, ServicePlan] = {}  # of the plan in force
        self._settings = layout.SETTINGS.unpack(maps["settings"].lookup(_ZERO) or b"")
        if not self._settings.seed:
            self._begin()
        self._ends = Ends(maps["ends"], self._settings.ends)
        self._interfaces: dict[int, layout.Interface] = {}
        self.numbers = Numbers()
        self._wanted: Sequence[ServicePlan] = ()  # of the last plan that has its numbers
        self._is_written = True  # to its end
        self.names: dict[int, str] = {}
        self.to_reset: set[int] = set()
        self._read()
        for key, value in maps["interfaces"].items():
            self._interfaces[int.from_bytes(key, sys.byteorder)] = layout.INTERFACE.unpack(value)
        self._number()

    @property
    def paths(self) -> Mapping[int, layout.Path]:
        """All paths that have a number."""
        return self._present.paths

    @property
    def services(self) -> Mapping[str, ServicePlan]:
        """Of the plan in force, by name."""
        return self._services

    @property
    def settings(self) -> layout.Settings:
        """As the programs have them."""
        return self._settings

    @property
    def timeouts(self) -> tuple[int, ...]:
        """By state, ns."""
        return layout.TIMEOUTS.unpack(self._settings.timeouts)

    def apply(self, plan: Plan, *, clock: int = 0) -> None:
        """Make a plan true. ``clock`` is the time in ns for programs with a clock of their own.

        Raises:
            OutOfNumbers: only services that the plan has no more are gone, so that there is room for it
                when their connections are.
            LibbpfError: a map could not be written; applying the plan again goes on from there.
        """
        try:
            self.numbers.update(plan)
        except OutOfNumbers:
            self._make_way(plan)
            raise
        self._bring_about(plan, clock)

    def _make_way(self, plan: Plan) -> None:
        wanted = {(each.protocol, each.address) for each in plan.services}
        kept = tuple(
            self._services.get(each.name, each)
            for each in self._wanted
            if (each.protocol, each.address) in wanted
        )
        if len(kept) < len(self._wanted) or not self._is_written:
            rest = replace(plan, services=kept)
            self.numbers.update(rest)
            self._bring_about(rest, clock=0)

    def _bring_about(self, plan: Plan, clock: int) -> None:
        """Write a plan that has its numbers."""
        if not self._is_written:
            self._read()
        wanted = contents(plan, self.numbers, self._present.backends)
        for service in plan.services:
            self.names[self.numbers.services[service.protocol, service.address]] = service.name
        self._wanted, self._is_written = plan.services, False
        self._services = {}  # neither those before nor these, should writing fail
        self._write_settings(plan, clock)
        self._write(wanted)
        self._services = {service.name: service for service in plan.services}
        self._is_written = True
        self.numbers.in_force()
        self._forget_names()

    def reweigh(self, costs: Mapping[str, Costs]) -> None:
        """Other costs, by service, for the backends that the plan in force has them for; see ``Datapath``.

        Raises:
            LibbpfError: a map could not be written.
        """
        for name, service in reweighed(self._services, costs).items():
            if service != self._services[name]:
                self._put_costs(costs_of(service, self.numbers))
                entry = service_entry(service, self.numbers)
                self._put_services(dict(entry.items() - self._present.services.items()))
                self._services[name] = service

    def routes_changed(self) -> None:
        """Routes, links, addresses or neighbours have: what hops the programs remember is void."""
        generation = self._settings.generation % 0xFFFF_FFFF + 1
        self._put_settings(self._settings._replace(generation=generation))

    def set_clock(self, clock: int) -> None:
        """The time in ns for programs with a clock of their own."""
        self._put_settings(self._settings._replace(clock=clock))

    @property
    def interfaces(self) -> Mapping[int, layout.Interface]:
        """What the programs know of interfaces, by index."""
        return self._interfaces

    def set_interfaces(self, interfaces: Mapping[int, layout.Interface]) -> bool:
        """Change what they know; False if it was so. Where there is no room for all, the last are left out:
        frames from and to them go by TC, and the long way to the other end of a pair."""
        known = self._maps["interfaces"]
        interfaces = dict(islice(interfaces.items(), known.max_entries))
        if interfaces == self._interfaces:
            return False
        # One by one: after an error it goes on from what is in the map.
        for index in self._interfaces.keys() - interfaces.keys():
            known.delete(word(index))
            del self._interfaces[index]
        for index, interface in interfaces.items() - self._interfaces.items():
            known.update(word(index), layout.INTERFACE.pack(interface))
            self._interfaces[index] = interface
        return True

    def retired(self) -> set[int]:
        """Paths that no new connection is given any more. Of a plan that could not be written to its end,
        others have a retired number and are still chosen."""
        return {number for number, path in self._present.paths.items() if path.flags & layout.PATH_RETIRED}

    def free(self, paths: Set[int]) -> None:
        """Of these the retired ones, which no connection has: their numbers may be used again."""
        traffic, loads = self._maps["traffic"], self._maps["loads"]
        freed = paths & self.retired()
        for number in freed:
            key = word(number)
            # They stay in the sum of all packets, whose place in verdicts the programs leave to us.
            packets = sum(sum(layout.TRAFFIC.unpack(counts)[:2]) for counts in traffic.lookup_percpu(key))
            self._add_forwarded(packets)
            traffic.update(key, bytes(layout.TRAFFIC.size * self._cpus))
            loads.update(key, bytes(layout.LOAD.size))
            self._maps["measured"].delete(key)
            self._present.costs.pop(number, None)
            self._maps["paths"].update(key, bytes(layout.PATH.size))
            del self._present.paths[number]
            self.to_reset.discard(number)
        self.numbers.free(freed)
        sockets = {layout.end_key(each.ip, each.port, protocol) for protocol, each in self.numbers.backends}
        self._remove_backends(self._present.backends.keys() - sockets)
        self._forget_names()

    # -- writing -------------------------------------------------------------------------------

    def _write(self, wanted: Contents) -> None:
        present = self._present
        self._make_room(
            len(present.services.keys() | wanted.services.keys())
            + len(present.backends.keys() | wanted.backends.keys())
        )
        self._put_addresses(wanted.addresses - present.addresses)
        worse = {n: path for n, path in wanted.paths.items() if not path.flags & layout.PATH_USABLE}
        self._put_paths(
            {n: path for n, path in wanted.paths.items() if n not in worse or n not in present.paths}
        )
        self._put_backends(dict(wanted.backends.items() - present.backends.items()))
        self._put_costs(wanted.costs)
        self._put_selections(wanted)
        self._put_services(dict(wanted.services.items() - present.services.items()))
        self._remove_services(present.services.keys() - wanted.services.keys())
        self._empty_selections(present.selections.keys() - wanted.selections.keys())
        self._put_paths(worse)
        self._remove_backends(present.backends.keys() - wanted.backends.keys())
        self._remove_addresses(present.addresses - wanted.addresses)

    def _make_room(self, count: int) -> None:
        """Let packets be looked up in a larger table of ends, if there are to be so many that it takes one.
        It is whole before they are. The one before stays as it is: a packet may be at work with it."""
        if (size := size_for(count)) <= self._ends.size:
            return
        larger = Ends(self._maps["ends"], size)
        larger.clear()
        for key, service in self._present.services.items():
            larger.add(key, layout.END_SERVICE, service.number)
        for key, backend in self._present.backends.items():
            larger.add(key, layout.END_BACKEND, backend.number)
        self._put_settings(self._settings._replace(ends=size))
        self._ends = larger

    def _put_services(self, services: Mapping[bytes, layout.Service]) -> None:
        present = self._present.services
        for key in services.keys() - present.keys():
            # Its number may have been another one's, or its own before it was removed.
            self._maps["turns"].update(word(services[key].number), word(0))
        values = [(word(each.number), layout.SERVICE.pack(each)) for each in services.values()]
        if values:
            self._maps["services"].update_batch(values)
        for key, each in services.items():
            if key not in present:
                self._ends.add(key, layout.END_SERVICE, each.number)
            present[key] = each

    def _remove_services(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            # A program may be at work with it: nothing of it changes but that it is no more.
            removed = self._present.services[key]._replace(version=0)
            self._ends.remove(key, layout.END_SERVICE, removed.number)
            self._maps["services"].update(word(removed.number), layout.SERVICE.pack(removed))
            del self._present.services[key]

    def _put_backends(self, backends: Mapping[bytes, layout.Backend]) -> None:
        present = self._present.backends
        values = [(word(each.number), layout.BACKEND.pack(each)) for each in backends.values()]
        if values:
            self._maps["backends"].update_batch(values)
        for key, each in backends.items():
            if key not in present:
                self._ends.add(key, layout.END_BACKEND, each.number)
            present[key] = each

    def _remove_backends(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            removed = self._present.backends[key]._replace(version=0)
            self._ends.remove(key, layout.END_BACKEND, removed.number)
            self._maps["backends"].update(word(removed.number), layout.BACKEND.pack(removed))
            del self._present.backends[key]

    def _put_selections(self, wanted: Contents) -> None:
        """Many at once: the kernel waits after a write until nobody reads what was there."""
        changed = [
            (number, words)
            for number, words in wanted.selections.items()
            if self._present.selections.get(number) != words
        ]
        for begin in range(0, len(changed), _TABLES_AT_ONCE):
            self._put_some_selections(dict(changed[begin : begin + _TABLES_AT_ONCE]))

    def _put_some_selections(self, selections: Mapping[int, tuple[int, ...]]) -> None:
        with contextlib.ExitStack() as stack:
            entries = []
            for number, words in selections.items():
                table = Map.create_array(4, len(words), inner=True)
                stack.callback(table.close)
                table.update_batch([(word(at), word(value)) for at, value in enumerate(words)])
                entries.append((word(number), word(table.fd)))
            self._maps["selections"].update_batch(entries)
        self._present.selections.update(selections)

    def _empty_selections(self, numbers: Set[int]) -> None:
        """With one write, as above: deletions would wait one by one. To the programs an empty one is as
        one that is not there."""
        if not numbers:
            return
        with contextlib.closing(Map.create_array(4, 1, inner=True)) as empty:
            self._maps["selections"].update_batch((word(number), word(empty.fd)) for number in numbers)
        for number in numbers:
            del self._present.selections[number]

    def _put_costs(self, costs: Mapping[int, int]) -> None:
        changed = dict(costs.items() - self._present.costs.items())
        if changed:
            for number in changed:
                self._present.costs.pop(number, None)  # it is not known, should writing fail
            self._maps["costs"].update_batch((word(number), word(cost)) for number, cost in changed.items())
            self._present.costs.update(changed)

    def _put_paths(self, paths: Mapping[int, layout.Path]) -> None:
        changed = dict(paths.items() - self._present.paths.items())
        if changed:
            for number in changed.keys() - self._present.paths.keys():
                self._maps["measured"].update(word(number), bytes(layout.MEASURED.size))
            pairs = [(word(number), layout.PATH.pack(path)) for number, path in changed.items()]
            self._maps["paths"].update_batch(pairs)
            self._note_gone(changed)
            self._present.paths.update(changed)

    def _note_gone(self, paths: Mapping[int, layout.Path]) -> None:
        for number, path in paths.items():
            before = self._present.paths.get(number)
            if not path.flags & layout.PATH_GONE:
                self.to_reset.discard(number)
            elif before is None or not before.flags & layout.PATH_GONE:
                self.to_reset.add(number)

    def _put_addresses(self, addresses: Iterable[bytes]) -> None:
        for version, keys in _by_version(addresses).items():
            self._maps[f"addresses{version}"].update_batch((key, b"\1") for key in keys)
            self._present.addresses.update(keys)

    def _remove_addresses(self, addresses: Iterable[bytes]) -> None:
        for version, keys in _by_version(addresses).items():
            self._maps[f"addresses{version}"].delete_batch(keys)
            self._present.addresses.difference_update(keys)

    def _write_settings(self, plan: Plan, clock: int) -> None:
        before = self._settings._replace(clock=clock or self._settings.clock)
        self._put_settings(settings(plan, before))

    def _begin(self) -> None:
        """Settings that stay as they are with the maps, or that begin here."""
        seed, pairs = secrets.randbits(64) | 1, self._maps["connections4"].max_entries
        self._put_settings(
            self._settings._replace(generation=1, seed=seed, pairs=pairs, ends=layout.FEWEST_ENDS)
        )

    def _put_settings(self, new: layout.Settings) -> None:
        if new != self._settings:
            self._maps["settings"].update(_ZERO, layout.SETTINGS.pack(new))
            self._settings = new

    def _add_forwarded(self, packets: int) -> None:
        if packets:
            verdicts, key = self._maps["verdicts"], word(Verdict.FORWARD)
            counts = verdicts.lookup_percpu(key)
            (count,) = layout.COUNT.unpack(counts[0])
            verdicts.update(key, layout.COUNT.pack(count + packets) + b"".join(counts[1:]))

    def _forget_names(self) -> None:
        numbers = set(self.numbers.services.values())
        self.names = {number: name for number, name in self.names.items() if number in numbers}

    # -- what is there --------------------------------------------------------------------------

    def _read(self) -> None:
        """What a daemon before has left, or this one, of a plan that it could not write to its end."""
        self._present = present = Contents()
        for version in (4, 6):
            present.addresses.update(self._maps[f"addresses{version}"].keys())
        for service in map(layout.SERVICE.unpack, self._maps["services"].values()):
            if service.version:
                key = layout.narrow_end(service.end, service.version)
                present.services[key] = service
                self._complete(key, layout.END_SERVICE, service.number)
        for backend in map(layout.BACKEND.unpack, self._maps["backends"].values()):
            if backend.version:
                key = layout.narrow_end(backend.end, backend.version)
                present.backends[key] = backend
                self._complete(key, layout.END_BACKEND, backend.number)
        for key, value in self._maps["paths"].items():
            path = layout.PATH.unpack(value)._replace(hop=layout.NO_HOP)
            if path.flags & layout.PATH_GONE:
                self.to_reset.add(int.from_bytes(key, sys.byteorder))
            if path.version:
                present.paths[int.from_bytes(key, sys.byteorder)] = path

    def _complete(self, key: bytes, kind: int, number: int) -> None:
        """A daemon that was killed may have written what an end is and not the end."""
        if not self._ends.has(key, kind, number):
            self._ends.add(key, kind, number)

    def _number(self) -> None:
        services = {_socket(key): each.number for key, each in self._present.services.items()}
        backends = {_socket(key): each.number for key, each in self._present.backends.items()}
        paths: list[NumberedPath] = []
        retired: list[NumberedPath] = []
        for number, path in self._present.paths.items():
            numbered = _numbered(number, path)
            services[path.protocol, numbered.way.vip] = path.service
            backends[path.protocol, numbered.way.backend] = path.backend
            (retired if path.flags & layout.PATH_RETIRED else paths).append(numbered)
        self.numbers.adopt(services, backends, paths, retired)


def _by_version(keys: Iterable[bytes]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for key in keys:
        found.setdefault(layout.version_of(key), []).append(key)
    return found


def _socket(key: bytes) -> Socket:
    ip, port, protocol = layout.read_end(key)
    return protocol, Endpoint(ip, port)


def ends_of(path: layout.Path) -> tuple[Endpoint, Endpoint, bytes]:
    """VIP, backend, and of full NAT the address that the backend sees."""
    vip = Endpoint(layout.narrow(path.vip, path.version), int.from_bytes(path.vip_port, "big"))
    backend = Endpoint(layout.narrow(path.address, path.version), int.from_bytes(path.port, "big"))
    snat = layout.narrow(path.snat, path.version) if path.flags & layout.PATH_FULL_NAT else b""
    return vip, backend, snat if any(snat) else b""


def _numbered(number: int, path: layout.Path) -> NumberedPath:
    vip, backend, snat = ends_of(path)
    way = Way(path.protocol, vip, backend, bool(path.flags & layout.PATH_FULL_NAT))
    retired_for_good = layout.PATH_RETIRED | layout.PATH_GONE
    return NumberedPath(number, way, snat, path.flags & retired_for_good == retired_for_good)
