"""What the eBPF programs have in their maps, for an engine: a plan in, connections and counters out.

The daemon's own code fills and reads the maps (l4lb/datapath/ebpf); this makes them empty again for the
next case, which a daemon never has to.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Set
from ctypes import CDLL, create_string_buffer
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.connections import Connections, Found, Query, info
from l4lb.datapath.ebpf.counters import counters
from l4lb.datapath.ebpf.decisions import decisions
from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.ebpf.recall import recall
from l4lb.datapath.ebpf.route_mtus import RouteMtus
from l4lb.datapath.ebpf.sweep import Sweep
from l4lb.datapath.ebpf.tables import Tables
from l4lb.datapath.libbpf import Map, Program
from l4lb.director.states import timeouts_by_state
from l4lb.model import DECISIONS_KEPT, ConnectionInfo, Counters, Decision, Endpoint, Plan, Recalled
from l4lb.netlink.state import Route
from tests.conformance.world import MTU, NARROW_HOSTS, NARROW_MTU, PREFIXES

REMEMBERED: Final = (
    *(
        f"{name}{version}"
        for name in (
            "connections",
            "half_open",
            "reverse",
            "half_open_reverse",
            "direct",
            "affinities",
            "newcomers",
        )
        for version in (4, 6)
    ),
    "fragments",
)


class ProgramMaps:
    """The maps of programs that have a clock of their own, in ns."""

    def __init__(
        self, maps: Mapping[str, Map], programs: Mapping[str, Program], interfaces: Mapping[int, bytes]
    ) -> None:
        """``maps`` and ``programs`` of all objects; ``interfaces``, with their MACs by index, take what XDP
        sends."""
        self._maps = maps
        self._established = maps["connections4"].memory()
        self._tables = Tables(maps)
        self._tables.set_interfaces(
            {index: layout.Interface(layout.HOP_XDP, mac) for index, mac in interfaces.items()}
        )
        RouteMtus(maps).update(_routes())
        self._sweep = Sweep(maps, programs)
        self._connections = Connections(maps, programs, self._tables)
        self._plan = Plan()
        self._services: set[int] = set()  # all numbers since the last reset
        self._begun = False
        self._cpus = len(maps["traffic"].lookup_percpu(word(0)))

    def reset(self) -> None:
        """Nothing remembered, and with the next plan nothing counted by backend."""
        for name in REMEMBERED:
            if name != "connections4":
                self._maps[name].delete_batch([key for key, _ in self._maps[name].items()])
        self._established[:] = bytes(len(self._established))
        _empty(self._maps["rested"])
        for number in self._services:
            self._maps["turns"].update(word(number), word(0))
            self._maps["keep_at"].update(word(number), bytes(8))
        self._services.clear()
        kept = layout.TOTALS.unpack(self._maps["totals"].lookup(word(0)) or b"").decisions
        for number in range(min(kept, DECISIONS_KEPT)):
            self._maps["decisions"].update(word(number), bytes(layout.DECISION.size))
        self._maps["totals"].update(word(0), bytes(layout.TOTALS.size))
        self._begun = False

    def apply(self, plan: Plan, clock: int) -> None:
        """Make a plan true, at this time."""
        self._plan = plan
        self._tables.apply(plan, clock=clock)
        if not self._begun:
            self._begin()
        self._services.update(self._tables.numbers.services.values())

    def _begin(self) -> None:
        """Take away what the case before has left with this one's plan."""
        for number in self._tables.paths:
            self._maps["loads"].update(word(number), bytes(layout.LOAD.size))
            self._maps["traffic"].update(word(number), bytes(layout.TRAFFIC.size * self._cpus))
            self._maps["measured"].update(word(number), bytes(layout.MEASURED.size))
        self._tables.free(self._tables.retired())
        self._tables.to_reset.clear()
        self._tables.apply(self._plan)
        self._begun = True

    def set_clock(self, clock: int) -> None:
        """The time of the programs."""
        self._tables.set_clock(clock)

    def sweep(self, clock: int) -> None:
        """It is later now: what has expired is forgotten."""
        self._tables.set_clock(clock)
        for _ in self._sweep.steps(self._tables.paths):
            pass

    @property
    def paths(self) -> Set[int]:
        """The numbers of all there are."""
        return self._tables.paths.keys()

    def connections(self, clock: int) -> list[ConnectionInfo]:
        """All of them."""
        found: list[Found] = []
        for piece, _ in self._connections.ask(Query()):
            found += piece
        timeouts = tuple(round(seconds * 1e9) for seconds in timeouts_by_state(self._plan.timeouts))
        return [info(each, timeouts, clock) for each in found]

    def forget_gone(self) -> None:
        """Connections whose backend or service went away are no more, nor what was kept for them."""
        gone = frozenset(
            number for number, path in self._tables.paths.items() if path.flags & layout.PATH_GONE
        )
        self._tables.to_reset.clear()
        if gone:
            for _ in self._connections.ask(Query(gone, take=True)):
                pass
            self._tables.free(gone & self._tables.numbers.retired.keys())
            self._tables.apply(self._plan)

    def decisions(self) -> list[Decision]:
        """All that are kept."""
        return decisions(self._maps, self._tables)

    def recall(self, service: str, client: Endpoint, clock: int) -> Recalled:
        """Of a client."""
        return recall(self._maps, self._tables, service, client, clock)

    def counters(self, clock: int) -> Counters:
        """All of them."""
        return counters(self._maps, self._tables, clock)


def _empty(queue: Map) -> None:
    """Take all out. No daemon does that, so the bindings have no call for it."""
    take, value = CDLL("libbpf.so.1").bpf_map_lookup_and_delete_elem, create_string_buffer(queue.value_size)
    while (result := take(queue.fd, None, value)) == 0:
        pass
    assert result == -errno.ENOENT


def _routes() -> Iterator[Route]:
    """Those of world.py that have an MTU."""
    for prefixes in PREFIXES.values():
        for prefix in prefixes:
            yield _route(prefix, MTU)
    for host in NARROW_HOSTS:
        yield _route(ip_network(host), NARROW_MTU)
    for everything in ("0.0.0.0/0", "::/0"):
        yield _route(ip_network(everything), MTU)


def _route(prefix: IPv4Network | IPv6Network, mtu: int) -> Route:
    return Route(prefix.network_address.packed, prefix.prefixlen, 0, mtu=mtu)
