"""MTUs of routes for the programs: ``bpf_fib_lookup`` does not tell them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from l4lb.datapath.ebpf.layout import word
from l4lb.datapath.libbpf import Map
from l4lb.netlink.state import Route

Prefix = tuple[bytes, int]
"""Address (4 or 16 bytes) and length in bits."""


def route_mtus(routes: Iterable[Route]) -> dict[Prefix, int]:
    """What the longest prefix of an address has to say of its route's MTU: only routes that have one,
    and, as 0, those within that have none."""
    best: dict[Prefix, Route] = {}
    for route in routes:
        key = (route.prefix, route.length)
        if key not in best or route.metric < best[key].metric:
            best[key] = route
    mtus = {key: route.mtu for key, route in best.items() if route.mtu}
    if mtus:
        mtus.update((key, 0) for key in best.keys() - mtus.keys() if any(map(mtus.get, _around(key))))
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
        for each in self._maps.values():
            for key in list(each.keys()):
                each.delete(key)

    def update(self, routes: Iterable[Route]) -> None:
        """Follow the routes.

        Raises:
            LibbpfError: more of them have an MTU than the map holds.
        """
        wanted = route_mtus(routes)
        for prefix, mtu in wanted.items() - self._present.items():
            self._maps[len(prefix[0])].update(_key(prefix), word(mtu))
        for prefix in self._present.keys() - wanted.keys():
            self._maps[len(prefix[0])].delete(_key(prefix))
        self._present = wanted


def _key(prefix: Prefix) -> bytes:
    """A ``struct prefix``."""
    return word(prefix[1]) + prefix[0]
