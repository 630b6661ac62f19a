"""What on this host keeps the balancer, or something near it, from working as its config says.

``warnings_for`` is pure; ``read_sysctls`` is where /proc is read, and ``key_problems`` the keys of agents.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from l4lb.agent.keys import BadKeyFile, read_keys
from l4lb.control.config.config import Config, GatewayConfig
from l4lb.control.host_view import HostView
from l4lb.datapath.base import Capabilities
from l4lb.datapath.raw.hops import is_ethernet
from l4lb.health.budget import for_agents, for_probes
from l4lb.model import Nat, Service
from l4lb.netlink.interfaces import home_of, interface_with_subnet

_PROC_NET: Final = Path("/proc/sys/net")

_NAMED: Final = 3
"""Names in a line, at most: there may be thousands."""


class _NoWay(NamedTuple):
    """Why packets cannot be sent to a backend, and to several."""

    of_one: str
    of_many: str


_OWN: Final = _NoWay(
    "is an address of this host: l4lb balances to other hosts only",
    "are addresses of this host: l4lb balances to other hosts only",
)
_BROADCAST: Final = _NoWay(
    "is a broadcast or anycast address of a network of this host, not of a server",
    "are broadcast or anycast addresses of networks of this host, not of servers",
)
_NO_ROUTE: Final = _NoWay(
    "has no route: add one, or bring its interface up",
    "have no route: add one, or bring their interface up",
)


@dataclass(frozen=True, slots=True)
class Sysctls:
    """The kernel settings of this network namespace that matter here."""

    ip_forward: bool = True  # net.ipv4.ip_forward
    ipv6_forwarding: bool = True  # net.ipv6.conf.all.forwarding
    not_forwarding: frozenset[tuple[int, str]] = frozenset()  # version of IP, interface: its own is 0
    local_ports: tuple[int, int] = (32768, 60999)  # net.ipv4.ip_local_port_range, inclusive


def read_sysctls(interfaces: Iterable[str]) -> Sysctls:
    """The settings now, of these interfaces; one that cannot be read is taken to be as it should."""
    given = Sysctls()
    low_high = _words("ipv4/ip_local_port_range")
    return Sysctls(
        ip_forward=_words("ipv4/ip_forward") != ["0"],
        ipv6_forwarding=_words("ipv6/conf/all/forwarding") != ["0"],
        not_forwarding=frozenset(
            (version, name)
            for version in (4, 6)
            for name in interfaces
            if _words(f"ipv{version}/conf/{name}/forwarding") == ["0"]
        ),
        local_ports=(int(low_high[0]), int(low_high[1])) if len(low_high) == 2 else given.local_ports,
    )


def _words(name: str) -> list[str]:
    try:
        return (_PROC_NET / name).read_text().split()
    except OSError:
        return []


def key_problems(services: Sequence[Service]) -> list[str]:
    """One line for each key file, of those that agents are asked with, that cannot be used now."""
    of_key: dict[str, list[Service]] = {}
    for service in services:
        if service.agent is not None and service.agent.key is not None:
            of_key.setdefault(service.agent.key, []).append(service)
    lines = []
    for key, users in of_key.items():
        try:
            read_keys(Path(key))
        except BadKeyFile as error:
            line = f"{error}: the agents of {_services(users)} are not asked"
            if unchecked := [service for service in users if service.health.check == "agent"]:
                line += f", and the backends of {_services(unchecked)} are not checked"
            lines.append(line)
    return lines


def warnings_for(
    config: Config,
    view: HostView,
    sysctls: Sysctls,
    *,
    foreign_rules: bool,
    withdrawn: Collection[bytes],
    capabilities: Capabilities,
    at_start: GatewayConfig,
) -> list[str]:
    """One line for each thing that is not as it should be, without repetition.

    Args:
        foreign_rules: there are policy routing rules.
        withdrawn: VIPs that others had put on this host and took away, packed.
        capabilities: of the datapath that runs.
        at_start: what the config said when the daemon was started.
    """
    return [
        *_interfaces(config, view),
        *_clients_sides(config, view),
        *_withdrawn(withdrawn),
        *_routes(config, view),
        *_foreign_rules(foreign_rules),
        *_forwarding(config, view.interfaces, sysctls, capabilities),
        *_ports(config, sysctls),
        *_agents(config),
        *_limits(config, capabilities),
        *_for_a_restart(config.gateway, at_start, capabilities),
    ]


def _interfaces(config: Config, view: HostView) -> Iterator[str]:
    if not view.interfaces and config.services:
        yield "no interface has a route to a VIP or a backend: nothing is balanced until one does"
    for name in config.gateway.interfaces:
        if view.state.link(name) is None:
            yield f"interface {name} does not exist now: its packets are balanced once it does"
    for name in view.left_out:
        yield (
            f"interface {name} leads to backends, but is not in gateway.interfaces: their answers are not "
            "translated; add it, or leave the key out"
        )
    for name in view.interfaces:
        link = view.state.link(name)
        if link is not None and not is_ethernet(link):
            yield f"interface {name} carries no Ethernet frames: its packets stay the host's"


def _clients_sides(config: Config, view: HostView) -> Iterator[str]:
    """The clients of a VIP come by the interface of its subnet, or of the default route. Where it is on
    another one, a dummy for example, their routes decide, and the operator knows best."""
    gateway, state = config.gateway, view.state
    if not gateway.interfaces:
        return
    names = {link.index: link.name for link in state.links}
    where: dict[bytes, list[str | None]] = {}
    for address in state.addresses:
        where.setdefault(address.ip, []).append(names.get(address.index))
    for ip in dict.fromkeys(service.address.ip for service in config.services):
        holders = where.get(ip, [])
        if any(name in gateway.interfaces for name in holders):
            continue
        home = home_of(state, ip) if holders else interface_with_subnet(state, ip)
        if home is None or home.name in gateway.interfaces:
            continue
        if home.name in (holders or [gateway.vip_interface or home.name]):
            yield (
                f"VIP {ip_address(ip)} belongs on {home.name}, which is not in gateway.interfaces: "
                "clients' packets that come by it are left to the host; add it, or leave the key out"
            )


def _withdrawn(vips: Collection[bytes]) -> Iterator[str]:
    for ip in sorted(vips):
        yield (
            f"VIP {ip_address(ip)} is on no interface: who had put it there took it away; put it back, or "
            "restart l4lb, which does, or set gateway.manage_vips to false if it is for others to move"
        )


def _routes(config: Config, view: HostView) -> Iterator[str]:
    own = {address.ip for address in view.state.addresses}
    for service in config.services:
        without: dict[_NoWay, list[str]] = {}
        for backend in service.backends:
            if view.table.lookup(backend.address.ip) is not None:
                continue
            if backend.address.ip in own:
                why = _OWN
            elif view.table.is_local(backend.address.ip):
                why = _BROADCAST
            else:
                why = _NO_ROUTE
            without.setdefault(why, []).append(str(backend.address))
        for why, backends in without.items():
            if len(backends) == 1:
                said = f"backend {backends[0]} {why.of_one}"
            else:
                said = f"{len(backends):,} backends ({_some(backends)}) {why.of_many}"
            yield f"service {service.name}: {said}"


def _agents(config: Config) -> Iterator[str]:
    packets, limits = for_agents(config.services), config.gateway.probes
    if packets and packets >= limits.ceiling - for_probes(limits):
        yield (
            f"to ask all agents at their intervals takes {packets:.0f} packets a second, and "
            f"gateway.probes.ceiling allows {limits.ceiling:g} for them and the probes: they are asked "
            "less often; raise one of the two"
        )


def _limits(config: Config, capabilities: Capabilities) -> Iterator[str]:
    limits = config.gateway.limits
    for name, made_for in capabilities.unmet(limits).items():
        yield (
            f"gateway.limits.{name} is {getattr(limits, name)}, but the kernel's table is made for "
            f"{made_for}: 'l4lb stop' and a start change it"
        )


def _for_a_restart(
    wanted: GatewayConfig, at_start: GatewayConfig, capabilities: Capabilities
) -> Iterator[str]:
    line = "gateway.{} is {}, but l4lb was started with {}: a restart changes it"
    if wanted.datapath not in (at_start.datapath, capabilities.name):
        yield line.format("datapath", wanted.datapath, at_start.datapath)
    if wanted.hold != at_start.hold:
        yield line.format("hold", f"{wanted.hold:g}", f"{at_start.hold:g}")


def _foreign_rules(present: bool) -> Iterator[str]:
    if present:
        yield (
            "this host has policy routing rules (ip rule), which are not followed: packets of services "
            "go by the tables local and main"
        )


def _forwarding(
    config: Config, interfaces: Collection[str], sysctls: Sysctls, capabilities: Capabilities
) -> Iterator[str]:
    """The host's setting is that of interfaces to come, and sets those of all that are there, which may
    then be set by themselves. IPv4, and bpf_fib_lookup() of both versions, ask the interface that a packet
    came by, IPv6's own forwarding the host's setting."""
    needed = capabilities.needs_forwarding
    less = "services work, but hosts behind this gateway reach nothing else through it"
    none = f"services do not work, for datapath {capabilities.name} needs the kernel to forward"
    versions = {service.address.version for service in config.services}
    for version, on, name in (
        (4, sysctls.ip_forward, "net.ipv4.ip_forward"),
        (6, sysctls.ipv6_forwarding, "net.ipv6.conf.all.forwarding"),
    ):
        if version not in versions:
            continue
        off = [each for each in interfaces if (version, each) in sysctls.not_forwarding]
        set_by_themselves = on or len(off) < len(interfaces)
        if set_by_themselves and (version == 4 or needed):
            yield from (_off(_forwarding_of(each, version), none if needed else less) for each in off)
            if version == 6 and not on:
                yield _off(name, less)
        elif not on:
            yield _off(name, none if needed else less)


def _off(name: str, result: str) -> str:
    return f"{name} is 0: {result}; turn it on with: sysctl -w {name}=1"


def _forwarding_of(interface: str, version: int) -> str:
    """As sysctl(8) takes it: with slashes where a name has dots, as a VLAN's."""
    mark = "/" if "." in interface else "."
    return mark.join(("net", f"ipv{version}", "conf", interface, "forwarding"))


def _ports(config: Config, sysctls: Sysctls) -> Iterator[str]:
    low, high = config.gateway.snat_ports
    local_low, local_high = sysctls.local_ports
    if low <= local_high and local_low <= high and any(s.nat is Nat.FULL for s in config.services):
        yield (
            f"snat_ports {low}-{high} overlap this host's own ports {local_low}-{local_high} "
            "(net.ipv4.ip_local_port_range): its own connections to backends may be mistaken for clients'; "
            "keep the two apart"
        )


def _services(services: Sequence[Service]) -> str:
    names = _some([service.name for service in services])
    return f"service{'' if len(services) == 1 else 's'} {names}"


def _some(names: Sequence[str]) -> str:
    """All of a few names, of more the first and how many there are besides."""
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: _NAMED - 1])} and {len(names) - _NAMED + 1:,} more"
