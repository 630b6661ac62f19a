"""What the packet process is told of the kernel's links, addresses and routes: what is new since last time.

A router's routes are tens of thousands, and a routing daemon changes some of them all the time. To send
and to order all of them for each change would stop the traffic. Pure; neighbours are told one by one, as
frames wait for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from l4lb.netlink.routing import Prefix, by_prefix
from l4lb.netlink.state import Address, KernelState, Link, Route


@dataclass(frozen=True, slots=True)
class News:
    """What differs from the message before."""

    links: tuple[Link, ...] | None  # all of them; None: as before
    addresses: tuple[Address, ...] | None  # likewise
    routes: Mapping[Prefix, tuple[Route, ...]]  # by prefix that has others now, () for one that has none


class Known:
    """What the packet process knows; nothing at first."""

    def __init__(self) -> None:
        self._state = KernelState()
        self._routes: dict[Prefix, tuple[Route, ...]] = {}

    def learn(self, state: KernelState) -> News | None:
        """What is new in ``state``, which is known from now on; None if nothing is."""
        before, self._state = self._state, state
        links = state.links if state.links != before.links else None
        addresses = state.addresses if state.addresses != before.addresses else None
        routes = self._learn_routes(state) if state.routes != before.routes else {}
        if links is None and addresses is None and not routes:
            return None
        return News(links, addresses, routes)

    def _learn_routes(self, state: KernelState) -> dict[Prefix, tuple[Route, ...]]:
        before, self._routes = self._routes, by_prefix(state.routes)
        changed = {prefix: same for prefix, same in self._routes.items() if before.get(prefix) != same}
        return changed | dict.fromkeys(before.keys() - self._routes.keys(), ())
