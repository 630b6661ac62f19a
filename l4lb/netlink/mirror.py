"""A copy of the kernel's network configuration, kept current by its messages.

No I/O: ``watch`` feeds it dumps and events. An event that does not say enough to be applied exactly
puts the part it belongs to into ``stale``, and whoever feeds the mirror then dumps that part again.
That is so in more cases than one would think:

- IPv4 routes that go away with a link, with an address or with a nexthop object are not announced one
  by one (fib_flush in net/ipv4/fib_trie.c sends nothing).
- Appended routes and IPv6 multipath siblings share their key with routes already there, and the order
  among them counts.
- An IPv6 address added while its link is down is not announced, then or later (addrconf_dad_begin in
  net/ipv6/addrconf.c), nor is its route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from l4lb.netlink.messages import (
    DEFAULT_RULES,
    NLM_F_REPLACE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELNEXTHOP,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    USABLE,
    AddressEntry,
    LinkEntry,
    Message,
    NeighbourEntry,
    Nud,
    RouteKey,
    Rule,
    is_tentative,
    read_address,
    read_link,
    read_neighbour,
    read_route,
    read_rule,
)
from l4lb.netlink.state import Address, Change, KernelState, Neighbour, Route


class Part(Enum):
    """A part of the kernel's configuration that can be dumped by itself."""

    LINKS = "links"
    ADDRESSES = "addresses"
    ROUTES = "routes"
    NEIGHBOURS = "neighbours"
    RULES = "rules"


class Mirror:
    """The copy. Feed it with ``replace`` and ``apply``; read ``state``; ask ``take_change``."""

    def __init__(self) -> None:
        self.stale: set[Part] = set()
        self._links: dict[int, LinkEntry] = {}
        self._addresses: dict[AddressEntry, Address] = {}
        self._routes: dict[RouteKey, list[tuple[Route, ...]]] = {}
        self._neighbours: dict[tuple[int, bytes], NeighbourEntry] = {}
        self._rules: set[Rule] = set()
        self._state: KernelState | None = KernelState()
        self._changed: set[Part] = set()
        self._news: dict[tuple[int, bytes], Neighbour] = {}

    @property
    def state(self) -> KernelState:
        """A snapshot, made anew only after a change."""
        if self._state is None:
            self._state = KernelState(
                links=tuple(entry.link for entry in self._links.values()),
                addresses=tuple(self._addresses.values()),
                routes=tuple(hop for same in self._routes.values() for hops in same for hop in hops),
                neighbours=tuple(
                    entry.neighbour
                    for entry in self._neighbours.values()
                    if entry.neighbour.mac is not None
                ),
            )
        return self._state

    @property
    def foreign_rules(self) -> bool:
        """True if there are other policy routing rules than those every namespace begins with."""
        for family, rules in DEFAULT_RULES.items():
            found = {rule for rule in self._rules if rule.family == family}
            if found and found != rules:  # none at all: the kernel runs without that family
                return True
        return False

    def is_static(self, index: int, ip: bytes) -> bool:
        """True for a neighbour that the kernel never asks: set by hand, or needing no address."""
        entry = self._neighbours.get((index, ip))
        return entry is not None and bool(entry.state & (Nud.PERMANENT | Nud.NOARP))

    def take_change(self) -> Change | None:
        """What has changed since this was asked last."""
        if not self._changed and not self._news:
            return None
        change = Change(
            links=Part.LINKS in self._changed,
            addresses=Part.ADDRESSES in self._changed,
            routes=Part.ROUTES in self._changed,
            neighbours=tuple(self._news.values()),
            rules=Part.RULES in self._changed,
        )
        self._changed.clear()
        self._news.clear()
        return change

    def replace(self, part: Part, messages: Iterable[Message]) -> None:
        """Take a whole dump of one part."""
        self.stale.discard(part)
        match part:
            case Part.LINKS:
                links = {entry.link.index: entry for entry in map(read_link, messages) if entry}
                self._note(part, links != self._links)
                self._links = links
            case Part.ADDRESSES:
                in_use = (message for message in messages if not is_tentative(message))
                addresses = {entry: entry.address for entry in map(read_address, in_use) if entry}
                self._note(part, addresses != self._addresses)
                self._addresses = addresses
            case Part.ROUTES:
                routes: dict[RouteKey, list[tuple[Route, ...]]] = {}
                for route in filter(None, map(read_route, messages)):
                    routes.setdefault(route.key, []).append(route.hops)
                self._note(part, routes != self._routes)
                self._routes = routes
            case Part.NEIGHBOURS:
                entries = {_key(entry): entry for entry in map(read_neighbour, messages) if entry}
                for key in self._neighbours.keys() - entries.keys():
                    self._forget(key)
                for entry in entries.values():
                    self._learn(entry)
            case Part.RULES:
                foreign = self.foreign_rules
                self._rules = {rule for rule in map(read_rule, messages) if rule}
                self._note(part, self.foreign_rules != foreign)

    def apply(self, message: Message) -> None:
        """Take one event."""
        handler = _HANDLERS.get(message["header"]["type"])
        if handler is not None:
            handler(self, message)

    def unanswered(self, index: int, ip: bytes) -> None:
        """Note that the kernel cannot even ask for a neighbour. What it was is forgotten: else nobody would
        be told when it is the same again."""
        self._neighbours.pop((index, ip), None)
        self._tell(Neighbour(index, ip, None))

    def _new_link(self, message: Message) -> None:
        entry = read_link(message)
        if entry is None:
            return
        before = self._links.get(entry.link.index)
        if entry == before:
            return
        self._links[entry.link.index] = entry
        self._note(Part.LINKS, before is None or entry.link != before.link)
        if before is None or (entry.enabled, entry.link.up) != (before.enabled, before.link.up):
            self.stale |= {Part.ADDRESSES, Part.ROUTES}

    def _del_link(self, message: Message) -> None:
        entry = read_link(message)
        if entry is None or self._links.pop(entry.link.index, None) is None:
            return
        index = entry.link.index
        self._note(Part.LINKS)
        for owned in [a for a in self._addresses if a.address.index == index]:
            del self._addresses[owned]
            self._note(Part.ADDRESSES)
        for key, same in list(self._routes.items()):
            left = [hops for hops in same if all(hop.index != index for hop in hops)]
            if len(left) < len(same):
                self._note(Part.ROUTES)
                if left:
                    self._routes[key] = left
                else:
                    del self._routes[key]
        for neighbour in [n for n in self._neighbours if n[0] == index]:
            self._forget(neighbour)
        self.stale.add(Part.ROUTES)  # others may have depended on its addresses

    def _new_address(self, message: Message) -> None:
        if is_tentative(message):
            self._del_address(message)
            return
        entry = read_address(message)
        if entry is not None and entry not in self._addresses:
            self._addresses[entry] = entry.address
            self._note(Part.ADDRESSES)

    def _del_address(self, message: Message) -> None:
        entry = read_address(message)
        if entry is not None and self._addresses.pop(entry, None) is not None:
            self._note(Part.ADDRESSES)
            self.stale.add(Part.ROUTES)

    def _new_route(self, message: Message) -> None:
        entry = read_route(message)
        if entry is None:
            return
        same = self._routes.get(entry.key, [])
        if not same or (len(same) == 1 and message["header"]["flags"] & NLM_F_REPLACE):
            self._routes[entry.key] = [entry.hops]
            self._note(Part.ROUTES, same != [entry.hops])
        elif same != [entry.hops]:
            self.stale.add(Part.ROUTES)

    def _del_route(self, message: Message) -> None:
        entry = read_route(message)
        if entry is None or entry.key not in self._routes:
            return
        if self._routes[entry.key] == [entry.hops]:
            del self._routes[entry.key]
            self._note(Part.ROUTES)
        else:
            self.stale.add(Part.ROUTES)

    def _new_neighbour(self, message: Message) -> None:
        entry = read_neighbour(message)
        if entry is not None:
            self._learn(entry)

    def _del_neighbour(self, message: Message) -> None:
        entry = read_neighbour(message)
        if entry is not None:
            self._forget(_key(entry))

    def _nexthop(self, message: Message) -> None:
        self.stale.add(Part.ROUTES)

    def _rule(self, message: Message) -> None:
        self.stale.add(Part.RULES)

    def _learn(self, entry: NeighbourEntry) -> None:
        before = self._neighbours.get(_key(entry))
        self._neighbours[_key(entry)] = entry
        known = before.neighbour.mac if before is not None else None
        # While the kernel asks (INCOMPLETE) nothing is known yet: the answer or FAILED will follow.
        if entry.state & Nud.FAILED or (entry.state & USABLE and entry.neighbour.mac != known):
            self._tell(entry.neighbour)
        elif entry.neighbour.mac != known:
            self._state = None

    def _forget(self, key: tuple[int, bytes]) -> None:
        before = self._neighbours.pop(key, None)
        if before is None or not before.state & Nud.FAILED:  # a failure has been told already
            self._tell(Neighbour(*key, None))

    def _tell(self, neighbour: Neighbour) -> None:
        self._news[neighbour.index, neighbour.ip] = neighbour
        self._state = None

    def _note(self, part: Part, changed: bool = True) -> None:
        if changed:
            self._changed.add(part)
            self._state = None


def _key(entry: NeighbourEntry) -> tuple[int, bytes]:
    return entry.neighbour.index, entry.neighbour.ip


_HANDLERS: dict[int, Callable[[Mirror, Message], None]] = {
    RTM_NEWLINK: Mirror._new_link,
    RTM_DELLINK: Mirror._del_link,
    RTM_NEWADDR: Mirror._new_address,
    RTM_DELADDR: Mirror._del_address,
    RTM_NEWROUTE: Mirror._new_route,
    RTM_DELROUTE: Mirror._del_route,
    RTM_NEWNEIGH: Mirror._new_neighbour,
    RTM_DELNEIGH: Mirror._del_neighbour,
    RTM_NEWNEXTHOP: Mirror._nexthop,
    RTM_DELNEXTHOP: Mirror._nexthop,
    RTM_NEWRULE: Mirror._rule,
    RTM_DELRULE: Mirror._rule,
}
