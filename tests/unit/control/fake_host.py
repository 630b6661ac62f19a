"""A kernel, VIPs and health checks that do as a test says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address

from l4lb.agent.protocol import Refusal
from l4lb.health.probing import LastProbe, ProbeCounters
from l4lb.health.rise_fall import Health, HealthState
from l4lb.health.runner import Down, OnChange
from l4lb.metrics.snapshot import Snapshot
from l4lb.model import BackendKey, Endpoint, Metrics, Service
from l4lb.netlink.state import Address, Change, KernelState, Link, Route, RouteKind
from l4lb.netlink.vips import VipError


def packed(text: str) -> bytes:
    return ip_address(text).packed


# client side eth0 10.1.0.1/24 [2001:db8:1::1], server side eth1 10.2.0.1/24 [2001:db8:2::1]
LINKS = (
    Link(1, "lo", b"", 65536, True),
    Link(2, "eth0", b"\2\0\0\0\0\1", 1500, True),
    Link(3, "eth1", b"\2\0\0\0\0\2", 1500, True),
)
ADDRESSES = (
    Address(2, packed("10.1.0.1"), 24),
    Address(3, packed("10.2.0.1"), 24),
    Address(2, packed("2001:db8:1::1"), 64),
    Address(3, packed("2001:db8:2::1"), 64),
    Address(3, packed("fe80::1"), 64),
)
ROUTES = (
    Route(packed("10.1.0.0"), 24, 2, source=packed("10.1.0.1")),
    Route(packed("10.2.0.0"), 24, 3, source=packed("10.2.0.1")),
    Route(packed("10.2.0.1"), 32, 3, kind=RouteKind.LOCAL),
    Route(packed("10.2.0.255"), 32, 3, kind=RouteKind.LOCAL),
    Route(packed("2001:db8:1::"), 64, 2),
    Route(packed("2001:db8:2::"), 64, 3),
    Route(packed("10.9.0.0"), 16, 3, gateway=packed("10.2.0.254")),
)
GATEWAY = KernelState(LINKS, ADDRESSES, ROUTES)


class FakeWatch:
    def __init__(self, state: KernelState = GATEWAY) -> None:
        self.state = state
        self.foreign_rules = False
        self.running = False
        self._subscribers: list[Callable[[Change], None]] = []

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False

    def subscribe(self, subscriber: Callable[[Change], None]) -> Callable[[], None]:
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def become(self, state: KernelState, change: Change) -> None:
        self.state = state
        for subscriber in self._subscribers:
            subscriber(change)


class FakeVips:
    def __init__(self) -> None:
        self.kept: list[dict[bytes, str | None]] = []
        self.refusals: tuple[str, ...] = ()
        self.withdrawn: frozenset[bytes] = frozenset()
        self.closed = False

    @property
    def ours(self) -> frozenset[bytes]:
        return frozenset(self.kept[-1]) if self.kept else frozenset()

    async def keep(self, vips: Mapping[bytes, str | None]) -> None:
        if self.refusals:
            raise VipError(*self.refusals)
        self.kept.append(dict(vips))

    async def clear(self) -> None:
        await self.keep({})

    async def close(self) -> None:
        self.closed = True


class FakeHealth:
    """Everything is unknown until ``become``."""

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._known: dict[BackendKey, Health] = {}
        self.closed = False
        self.made, self.packets = 0, 0
        self.refused: Counter[Refusal] = Counter()

    def begin_with(self, downs: Mapping[BackendKey, Down]) -> None:
        self._known = {
            target: Health(HealthState.DOWN, down.since, down.reason) for target, down in downs.items()
        }

    def downs(self) -> dict[BackendKey, Down]:
        return {
            target: Down("as always", health.since, health.reason)
            for target, health in self._known.items()
            if health.state is HealthState.DOWN
        }

    def update(self, services: Sequence[Service]) -> None:
        targets = [(service.name, backend.address) for service in services for backend in service.backends]
        unknown = Health(HealthState.UNKNOWN, 0.0)
        self._known = {target: self._known.get(target, unknown) for target in targets}

    def state(self, service: str, backend: Endpoint) -> Health:
        return self._known[service, backend]

    def become(
        self, service: str, backend: str, state: HealthState, reason: str = "", streak: int = 0
    ) -> None:
        endpoint = Endpoint.parse(backend)
        health = self._known[service, endpoint] = Health(state, 0.0, reason, streak)
        self._on_change(service, endpoint, health)

    async def close(self) -> None:
        self.closed = True


class FakeProber:
    """Sends nothing; what came of it is what a test says."""

    def __init__(self, counters: object, health: object) -> None:
        self.problem = ""
        self.counted = ProbeCounters()
        self.results: dict[BackendKey, LastProbe] = {}
        self.updates: list[tuple[Sequence[Service], bool]] = []
        self.running = False

    def start(self) -> None:
        self.running = True

    def update(self, services: Sequence[Service], *, enabled: bool) -> None:
        self.updates.append((services, enabled))

    def last(self, service: str, backend: Endpoint) -> LastProbe | None:
        return self.results.get((service, backend))

    def report(self) -> ProbeCounters:
        return self.counted

    async def close(self) -> None:
        self.running = False


class FakeMetrics:
    """Listens nowhere."""

    def __init__(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        self.problem = ""
        self.snapshot = snapshot
        self.settings = Metrics(enabled=False)
        self.followed = 0

    async def follow(self, settings: Metrics) -> None:
        self.settings = settings
        self.followed += 1

    async def close(self) -> None:
        self.settings = Metrics(enabled=False)
