"""MTUs of routes for the programs: ``bpf_fib_lookup`` does not tell them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.libbpf import Map
from l4lb.netlink.state import Route

log = logging.getLogger(__name__)

Prefix = tuple[bytes, int]
"""Address (4 or 16 bytes) and length in bits."""


def route_mtus(routes: Iterable[Route]) -> dict[Prefix, int]:
    """What the longest prefix of an address has to say of its route's MTU: only routes that have one,
    and, as 0, those within that have none, which come last."""
    best: dict[Prefix, Route] = {}
    for route in routes:
        key = (route.prefix, route.length)
        if key not in best or route.metric < best[key].metric:
            best[key] = route
    mtus = {key: route.mtu for key, route in best.items() if route.mtu}
    if mtus:
        within = [key for key in best if key not in mtus and any(map(mtus.get, _around(key)))]
        mtus.update(dict.fromkeys(within, 0))
    return mtus


def _around(prefix: Prefix) -> Iterable[Prefix]:
    """All shorter prefixes of the same address."""
    ip, length = prefix
    value, bits = int.from_bytes(ip, "big"), 8 * len(ip)
    for shorter in range(length):
        yield (value >> bits - shorter << bits - shorter).to_bytes(len(ip), "big"), shorter


class RouteMtus:
    """The maps route_mtus*, kept as the kernel's routes are."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        """Takes what a daemon before has left for unknown and begins anew."""
        self._maps = {4: maps["route_mtus4"], 16: maps["route_mtus6"]}
        self._present: dict[Prefix, int] = {}
        self._told = False  # that there are more than there is room for
        for each in self._maps.values():
            for key in list(each.keys()):
                each.delete(key)

    def update(self, routes: Iterable[Route]) -> None:
        """Follow the routes. Where there is no room for all, those without an MTU are left out first: the
        one of the route around them counts, so that packets are smaller than need be.

        Raises:
            LibbpfError: a map could not be written; following them again goes on from there.
        """
        wanted = self._fitting(route_mtus(routes))
        # Old ones first, changed ones too: a full trie does not take another value for what it has.
        for prefix, _ in self._present.items() - wanted.items():
            self._maps[len(prefix[0])].delete(_key(prefix))
            del self._present[prefix]
        for prefix, mtu in wanted.items() - self._present.items():
            self._maps[len(prefix[0])].update(_key(prefix), word(mtu))
            self._present[prefix] = mtu

    def _fitting(self, mtus: Mapping[Prefix, int]) -> dict[Prefix, int]:
        fitting: dict[Prefix, int] = {}
        for length, each in self._maps.items():
            of_version = [(prefix, mtu) for prefix, mtu in mtus.items() if len(prefix[0]) == length]
            fitting.update(of_version[: each.max_entries])
        left_out, told = len(mtus) - len(fitting), self._told
        self._told = bool(left_out)
        if left_out and not told:
            log.warning(
                "no room for the MTUs of all routes: %d have that of the route around them", left_out
            )
        return fitting


def _key(prefix: Prefix) -> bytes:
    """A ``struct prefix``."""
    return word(prefix[1]) + prefix[0]
