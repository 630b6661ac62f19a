"""Rules between several keys of the config file. Pure.

They look at the document as it was read and skip whatever is malformed, which ``config_schema``
reports: so one wrong address does not hide a duplicate elsewhere, and all errors come at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from l4lb.control.config.layout import KeyPath
from l4lb.control.config.values import shown
from l4lb.datapath.ebpf.numbers import BACKENDS, PATHS, SERVICES
from l4lb.model import Endpoint, Probes


class Problem(NamedTuple):
    """Something wrong at a place in the document."""

    path: KeyPath
    message: str


Services = list[tuple[int, Mapping[str, object]]]


def check(document: Mapping[str, object]) -> list[Problem]:
    """Everything in the document that is wrong only because of something else in it."""
    services = list(_tables(document.get("services")))
    problems = [*_duplicate_interfaces(document), *_probe_rates(document), *_duplicate_services(services)]
    problems += _too_many(services)
    vips = {
        address.ip: _called(index, service)
        for index, service in services
        if (address := _endpoint(service.get("address")))
    }
    for index, service in services:
        problems += _backends(index, service, vips)
        problems += _health(index, service)
        problems += _agent(index, service)
    return problems


def _duplicate_interfaces(document: Mapping[str, object]) -> Iterator[Problem]:
    gateway = document.get("gateway")
    names = gateway.get("interfaces") if isinstance(gateway, Mapping) else None
    if isinstance(names, list):
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(("gateway", "interfaces", index), f"{shown(name)} is already in the list")


def _probe_rates(document: Mapping[str, object]) -> Iterator[Problem]:
    gateway = document.get("gateway")
    probes = gateway.get("probes") if isinstance(gateway, Mapping) else None
    if isinstance(probes, Mapping):
        floor, ceiling = (probes.get(key, getattr(Probes(), key)) for key in ("floor", "ceiling"))
        if isinstance(floor, int | float) and isinstance(ceiling, int | float) and floor > ceiling:
            key = "ceiling" if "ceiling" in probes else "floor"
            message = f"the ceiling, {ceiling:g}, is below the floor, {floor:g}"
            yield Problem(("gateway", "probes", key), message)


def _duplicate_services(services: Services) -> Iterator[Problem]:
    names: set[str] = set()
    taken: dict[tuple[Endpoint, object], str] = {}
    for index, service in services:
        path: KeyPath = ("services", index)
        name = service.get("name")
        if isinstance(name, str):
            if name in names:
                yield Problem((*path, "name"), f"another service is already called {shown(name)}")
            names.add(name)
        address, protocol = _endpoint(service.get("address")), service.get("protocol", "tcp")
        if address is not None and protocol in ("tcp", "udp"):
            if owner := taken.get((address, protocol)):
                yield Problem((*path, "address"), f"{owner} already has {address} ({protocol})")
            else:
                taken[address, protocol] = _called(index, service)


def _too_many(services: Services) -> Iterator[Problem]:
    """What does not fit into the tables of tc and xdp. It is refused for raw too: a config holds for any
    datapath that ``auto`` may take."""
    if len(services) > SERVICES:
        yield Problem(("services", services[SERVICES][0]), f"at most {SERVICES:,} services are possible")
    places = [
        (index, number, service.get("protocol", "tcp"), backend.get("address"))
        for index, service in services
        for number, backend in _tables(service.get("backends"))
    ]
    if len(places) > PATHS:
        index, number, *_ = places[PATHS]
        message = f"at most {PATHS:,} backends are possible, one of two services counted twice"
        yield Problem(("services", index, "backends", number), message)
    elif len(places) > BACKENDS:
        different: set[tuple[object, Endpoint | None]] = set()
        for index, number, protocol, address in places:
            different.add((protocol, _endpoint(address)))
            if len(different) > BACKENDS:
                message = f"at most {BACKENDS:,} different backends are possible"
                yield Problem(("services", index, "backends", number), message)
                return


def _backends(index: int, service: Mapping[str, object], vips: Mapping[bytes, str]) -> Iterator[Problem]:
    vip = _endpoint(service.get("address"))
    seen: set[Endpoint] = set()
    for number, backend in _tables(service.get("backends")):
        path: KeyPath = ("services", index, "backends", number, "address")
        address = _endpoint(backend.get("address"))
        if address is None:
            continue
        if address in seen:
            yield Problem(path, f"the service already has backend {address}")
        seen.add(address)
        if vip is not None and address.version != vip.version:
            yield Problem(
                path,
                f"{address} is IPv{address.version}, but the service's address {vip} is IPv{vip.version}; "
                "l4lb does not translate between the two",
            )
        if vip is not None and address.ip == vip.ip:
            yield Problem(path, f"{address.host} is the service's own address")
        elif address.ip in vips:
            yield Problem(path, f"{address.host} is the address of {vips[address.ip]}, not of a server")


def _health(index: int, service: Mapping[str, object]) -> Iterator[Problem]:
    health = service.get("health")
    if not isinstance(health, Mapping):
        return
    check = health.get("check")
    if check is None:  # who writes another check knows that these wait for his next one
        for key in ("path", "host", "status"):
            if key in health:
                yield Problem(
                    ("services", index, "health", key),
                    'for http checks only: write check = "http", or leave it out',
                )
    if service.get("protocol") == "udp" and "port" not in health and check in ("tcp", "http"):
        yield Problem(
            ("services", index, "health", "check"),
            f"a UDP service cannot be checked by {check} on its own port: set 'port' to a TCP port of "
            'the backends, or write check = "none"',
        )


def _agent(index: int, service: Mapping[str, object]) -> Iterator[Problem]:
    agent, health = service.get("agent"), service.get("health")
    if isinstance(agent, Mapping) and agent.get("protocol", "udp") == "udp" and "key" not in agent:
        yield Problem(
            ("services", index, "agent"),
            "set 'key' to the file with the agents' key, or write protocol = \"tcp\" to ask by HAProxy's "
            "agent-check",
        )
    if isinstance(agent, Mapping) and agent.get("protocol") == "tcp" and "key" in agent:
        yield Problem(
            ("services", index, "agent", "key"),
            "HAProxy's agent-check has no key: leave it out, or write protocol = \"udp\" for l4lb's agents",
        )
    if agent is None and isinstance(health, Mapping) and health.get("check") == "agent":
        yield Problem(
            ("services", index, "health", "check"),
            "no agent to ask: add a table [services.agent] with its port",
        )


def _called(index: int, service: Mapping[str, object]) -> str:
    name = service.get("name")
    return f"service {shown(name)}" if isinstance(name, str) else f"services[{index}]"


def _tables(value: object) -> Iterator[tuple[int, Mapping[str, object]]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield index, item


def _endpoint(value: object) -> Endpoint | None:
    try:
        return Endpoint.parse(value) if isinstance(value, str) else None
    except ValueError:
        return None
