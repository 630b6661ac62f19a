"""Step 2, lookup: which service a packet is for, or which backend it is from.

Holds the services as configured and keeps their paths, and so their connections and counters,
through every change of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from l4lb.director.affinity import Affinity, Clients
from l4lb.director.connection import Path
from l4lb.director.parse import Packet
from l4lb.director.select import ServiceState
from l4lb.model import Costs, Endpoint, Limits, Plan, Selection, ServicePlan, WhenBackendDown

EndpointKey = tuple[int, bytes, int]
"""Protocol, packed address, port."""


def reweighed(plans: Mapping[str, ServicePlan], costs: Mapping[str, Costs]) -> dict[str, ServicePlan]:
    """The services with other costs: those that choose by costs at all, among the same backends."""
    return {
        name: replace(plan, selection=costs[name])
        if name in costs and _of_the_same(costs[name], plan.selection)
        else plan
        for name, plan in plans.items()
    }


def _of_the_same(costs: Costs, selection: Selection) -> bool:
    return isinstance(selection, Costs) and dict(costs.costs).keys() == dict(selection.costs).keys()


class Services:
    """The services of the present plan, by VIP and by backend."""

    def __init__(self) -> None:
        self._by_vip: dict[EndpointKey, ServiceState] = {}
        self.by_backend: dict[EndpointKey, tuple[ServiceState, ...]] = {}
        self.forwarded_before = 0
        """Packets of paths that are gone."""
        self.addresses: frozenset[bytes] = frozenset()
        """Of all VIPs and backends: who else's packets are damaged is not our business."""
        limits = Limits()
        self.clients = {version: Clients(limits.affinity, limits.half_open) for version in (4, 6)}
        """Those that affinity remembers, by version of IP."""

    def configure(self, plan: Plan) -> bool:
        """Take over a plan; True if paths went away or down, whose connections want attention."""
        before, self._by_vip = self._by_vip, {}
        by_backend: dict[EndpointKey, tuple[ServiceState, ...]] = {}
        addresses = set()
        attention = False
        for clients in self.clients.values():
            clients.limit, clients.newcomers = plan.limits.affinity, plan.limits.half_open
        for service in plan.services:
            vip = (service.protocol, service.address.ip, service.address.port)
            state = before.get(vip)
            if state is None or state.plan.nat != service.nat:
                state = ServiceState(service)
            else:
                del before[vip]
            attention |= self._update(state, service)
            self._by_vip[vip] = state
            addresses.add(service.address.ip)
            for backend in service.backends:
                key = (service.protocol, backend.address.ip, backend.address.port)
                by_backend[key] = (*by_backend.get(key, ()), state)
                addresses.add(backend.address.ip)
        for state in before.values():
            attention |= self._retire(state.paths.values())
        self.by_backend = by_backend
        self.addresses = frozenset(addresses)
        return attention

    def reweigh(self, costs: Mapping[str, Costs]) -> None:
        """Other costs, by the service's name, for backends that the plan has them for."""
        plans = reweighed({state.plan.name: state.plan for state in self}, costs)
        for state in self:
            state.plan = plans[state.plan.name]

    def of(self, packet: Packet) -> ServiceState | None:
        """The service that a packet with ports is for."""
        return self._by_vip.get((packet.protocol, packet.destination, packet.dport))

    def at(self, protocol: int, vip: bytes, port: int) -> ServiceState | None:
        """The service at an address and port."""
        return self._by_vip.get((protocol, vip, port))

    def __iter__(self) -> Iterator[ServiceState]:
        """All services."""
        return iter(self._by_vip.values())

    def paths(self) -> list[Path]:
        """All paths of all services."""
        return [path for state in self for path in state.paths.values()]

    def find_path(self, protocol: int, vip: Endpoint, backend: Endpoint) -> Path | None:
        """The path of a service to one of its backends, if both are configured."""
        state = self.at(protocol, vip.ip, vip.port)
        return state.paths.get(backend) if state is not None else None

    def _retire(self, paths: Iterable[Path]) -> bool:
        """Mark the paths of removed backends: their connections are to be reset."""
        retired = False
        for path in paths:
            path.alive = path.usable = False
            path.reset_when_down = True
            self.forwarded_before += path.packets_in + path.packets_out
            retired = True
        return retired

    def _update(self, state: ServiceState, service: ServicePlan) -> bool:
        """Bring one service up to date; True if a path of it went away or down."""
        state.plan = service
        if not service.affinity_timeout:
            state.affinity = None
        elif state.affinity is None:
            clients = self.clients[service.address.version]
            state.affinity = Affinity(service.affinity_timeout, clients, service.address, service.protocol)
        else:
            state.affinity.timeout = service.affinity_timeout

        before, state.paths = state.paths, {}
        attention = False
        for backend in service.backends:
            path = before.pop(backend.address, None)
            if path is None:
                path = Path(service.name, service.address, service.protocol, service.nat, backend)
            gone_before = path.gone
            path.service = service.name
            path.alive = backend.alive
            path.snat = backend.snat
            path.reset_when_down = service.when_backend_down is WhenBackendDown.RESET
            path.usable = False
            attention |= path.gone and not gone_before
            state.paths[backend.address] = path
        attention |= self._retire(before.values())

        state.choices = tuple(state.paths[backend.address] for backend in service.backends)
        for index in service.selection.chosen:
            state.choices[index].usable = True
        return attention
