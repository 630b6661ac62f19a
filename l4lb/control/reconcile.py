"""From what the operator wants and what is known of the backends to what a datapath should do.

Pure: no I/O, no clock. ``plan_for`` may be run in a thread, one call at a time, since compiling a
Maglev table takes long enough to be noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from l4lb.control.config.config import GatewayConfig
from l4lb.model import (
    MAX_WEIGHT,
    BackendKey,
    BackendPlan,
    Endpoint,
    Nat,
    Plan,
    Selection,
    Service,
    ServicePlan,
    WhenAllDown,
)
from l4lb.schedulers import Candidate, compile_selection


class SelectionCache:
    """The last selection of each service, so that only a service that changed is compiled again."""

    def __init__(
        self, compile_one: Callable[[str, Sequence[Candidate]], Selection] = compile_selection
    ) -> None:
        self._compile = compile_one
        self._kept: dict[str, tuple[tuple[str, tuple[Candidate, ...]], Selection]] = {}

    def selection(self, service: str, scheduler: str, candidates: tuple[Candidate, ...]) -> Selection:
        """What ``scheduler`` makes of the candidates; the same object while nothing changes."""
        wanted = (scheduler, candidates)
        kept = self._kept.get(service)
        if kept is None or kept[0] != wanted:
            kept = self._kept[service] = (wanted, self._compile(scheduler, candidates))
        return kept[1]

    def forget_others(self, services: Collection[str]) -> None:
        """Drop the selections of services that are gone."""
        self._kept = {name: kept for name, kept in self._kept.items() if name in services}


def weighed(services: Sequence[Service], shares: Mapping[BackendKey, float]) -> tuple[Service, ...]:
    """The services with the parts of their weights that backends want, whatever the config says: 0 drains.
    Those that are not in ``shares`` want all of theirs."""
    concerned = {name for name, _ in shares}
    return tuple(_weighed(each, shares) if each.name in concerned else each for each in services)


def _weighed(service: Service, shares: Mapping[BackendKey, float]) -> Service:
    wanted = [each.weight * shares.get((service.name, each.address), 1.0) for each in service.backends]
    # Weights are whole numbers: for parts of them all are multiplied, as far as there is room.
    whole = all(each == int(each) for each in wanted)
    times = min(1.0 if whole else 100.0, MAX_WEIGHT / max([1, *wanted]))
    weights = (max(1, round(each * times)) if each else 0 for each in wanted)
    backends = (
        replace(each, weight=weight) for each, weight in zip(service.backends, weights, strict=True)
    )
    return replace(service, backends=tuple(backends))


def plan_for(
    services: Sequence[Service],
    gateway: GatewayConfig,
    *,
    unusable: Collection[BackendKey],
    down: Collection[BackendKey],
    sources: Mapping[bytes, bytes],
    cache: SelectionCache,
    avoided: Collection[BackendKey] = (),
) -> Plan:
    """Everything a datapath should be doing.

    Those in ``unusable`` get no new connections, and of them those in ``down`` lose the ones that they
    have, if their service says so. A backend that was never checked is in neither, so that a restart of
    the daemon disturbs nobody. ``sources`` maps a backend's packed address to the gateway's address
    towards it, and lacks the backends without a route. Those that are ``avoided`` keep their connections
    and get new ones only where no other backend can.
    """
    plans = tuple(_service_plan(service, unusable, down, sources, cache, avoided) for service in services)
    cache.forget_others({service.name for service in services})
    return Plan(plans, gateway.timeouts, gateway.limits, gateway.snat_ports)


def candidates_for(
    service: Service,
    *,
    unusable: Collection[BackendKey],
    sources: Mapping[bytes, bytes],
    avoided: Collection[BackendKey] = (),
) -> tuple[Candidate, ...]:
    """The backends that new connections of a service may go to; arguments as of ``plan_for``."""
    usable = _usable(service, unusable)
    able = tuple(
        Candidate(index, backend.address, backend.weight)
        for index, backend in enumerate(service.backends)
        if backend.address in usable
        and backend.weight > 0
        # Without an address of ours to put into the packet, full NAT to this backend is impossible.
        and (service.nat is not Nat.FULL or backend.address.ip in sources)
    )
    return tuple(each for each in able if (service.name, each.address) not in avoided) or able


def _usable(service: Service, unusable: Collection[BackendKey]) -> set[Endpoint]:
    usable = _without(service, unusable)
    weighty = {backend.address for backend in service.backends if backend.weight > 0}
    if service.when_all_down is WhenAllDown.USE_ALL and not usable & weighty:
        usable |= weighty
    return usable


def _without(service: Service, left_out: Collection[BackendKey]) -> set[Endpoint]:
    return {
        backend.address for backend in service.backends if (service.name, backend.address) not in left_out
    }


def _service_plan(
    service: Service,
    unusable: Collection[BackendKey],
    down: Collection[BackendKey],
    sources: Mapping[bytes, bytes],
    cache: SelectionCache,
    avoided: Collection[BackendKey],
) -> ServicePlan:
    # A backend that is used is alive, also where all are down: its connections would be reset.
    alive = _without(service, down) | _usable(service, unusable)
    full = service.nat is Nat.FULL
    candidates = candidates_for(service, unusable=unusable, sources=sources, avoided=avoided)
    return ServicePlan(
        name=service.name,
        address=service.address,
        protocol=service.protocol,
        selection=cache.selection(service.name, service.scheduler, candidates),
        backends=tuple(
            BackendPlan(
                backend.address,
                alive=backend.address in alive,
                snat=sources.get(backend.address.ip) if full else None,
            )
            for backend in service.backends
        ),
        nat=service.nat,
        affinity_timeout=service.affinity_timeout if service.affinity == "client" else 0.0,
        when_backend_down=service.when_backend_down,
    )
