"""Namespaces, cables and switches, made from the topology.

    PREFIX-HOST [ eth0 ]---------[ HOST-eth0 ]--( bridge NETWORK )   PREFIX-net

Every host is a namespace. The switches are bridges in one more namespace, so that the gateway has
exactly the interfaces that a real one would have. Nothing is ever made in the machine's own
namespace.

A real switch is no load on the gateway's CPU, but these are. Where that matters, each host can have a
cable of its own to the gateway instead, which then has more interfaces:

    PREFIX-HOST [ eth0 ]---------[ eth1, eth2, ... ]   PREFIX-gateway
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

from netlab import LabError, pins, process, role
from netlab.command import batch, find, inside, run
from netlab.record import Record, namespace_inode
from netlab.topology import Host, Interface, Topology

SWITCH: Final = "net"
MTU: Final = 1500

_SWITCH: Final = (
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
    "net.bridge.bridge-nf-call-iptables=0",  # a switch does not look into IP, nor drop bad packets
    "net.bridge.bridge-nf-call-ip6tables=0",
    "net.bridge.bridge-nf-call-arptables=0",
)


@dataclass(frozen=True, slots=True)
class Cable:
    """A host's own way to the gateway, where there are no switches."""

    near: str  # the gateway's interface
    network: Interface  # the gateway's interface in the topology, whose addresses that has
    host: Host
    far: Interface


def cables(topology: Topology) -> Iterator[Cable]:
    """One for each interface of a host. The gateway's own have the first host of their network, those that
    it has none for have the next numbers."""
    gateway = topology.gateway
    more = count(len(gateway.interfaces))
    for card in gateway.interfaces:
        others = [
            (host, far)
            for host in topology.hosts.values()
            for far in host.interfaces
            if host is not gateway and far.network == card.network
        ]
        for number, (host, far) in enumerate(others):
            yield Cable(f"eth{next(more)}" if number else card.name, card, host, far)


def far_ends(prefix: str, topology: Topology) -> list[tuple[str, str]]:
    """Namespace and interface at the other end of each of the gateway's cables, as the lab is now."""
    switch = f"{prefix}-{SWITCH}"
    if namespace_inode(switch) is not None:
        return [(switch, f"{topology.gateway.name}-{card.name}") for card in topology.gateway.interfaces]
    return [(f"{prefix}-{cable.host.name}", cable.far.name) for cable in cables(topology)]


@contextmanager
def ready_for_xdp(prefix: str, topology: Topology) -> Iterator[None]:
    """With GRO at the other ends of the gateway's cables: a veth takes frames from XDP only with that or a
    program of its own."""
    with ExitStack() as stack:
        for namespace, port in far_ends(prefix, topology):
            gro = inside(namespace, find("ethtool"), "-K", port, "gro")
            stack.callback(run, [*gro, "off"])
            run([*gro, "on"])
        yield


def make(prefix: str, topology: Topology, record: Record, *, switched: bool = True) -> None:
    """Make all namespaces and everything in them.

    Args:
        switched: whether every network is a switch. If not, hosts reach only the gateway, and through it
            those of other networks.

    Raises:
        LabError: something is in the way or a command failed; what was made is in the record.
    """
    hosts = [f"{prefix}-{host}" for host in topology.hosts]
    switch = f"{prefix}-{SWITCH}"
    for name in (switch, *hosts):
        if namespace_inode(name) is not None:
            raise LabError(
                f"a network namespace '{name}' is there already and is not the lab's: remove it with "
                f"'ip netns delete {name}', or choose another --prefix"
            )
    for name in (switch, *hosts) if switched else hosts:
        record.namespaces[name] = None
        record.save()
        run(["ip", "netns", "add", name])
        record.namespaces[name] = namespace_inode(name)
        record.save()
    if switched:
        _make_switches(prefix, topology)
    else:
        _make_cables(prefix, topology)
    # The gateway first: it is the next hop of all others.
    for host in sorted(topology.hosts.values(), key=lambda host: host.role != "gateway"):
        role.take(host, topology, f"{prefix}-{host.name}")
    if not switched:
        batch(f"{prefix}-{topology.gateway.name}", list(_ways(topology)))


def _veth(near: str, far: str, namespace: str) -> str:
    return f"link add {near} mtu {MTU} type veth peer name {far} mtu {MTU} netns {namespace}"


def _make_switches(prefix: str, topology: Topology) -> None:
    switch = f"{prefix}-{SWITCH}"
    # -e: not every kernel has bridge netfilter.
    run(inside(switch, find("sysctl"), "-q", "-e", "-w", *_SWITCH))
    batch(switch, [f"link add {name} mtu {MTU} type bridge mcast_snooping 0" for name in topology.networks])
    batch(switch, [f"link set {name} up" for name in topology.networks])
    for host in topology.hosts.values():
        for card in host.interfaces:
            port = f"{host.name}-{card.name}"
            batch(
                switch,
                [
                    _veth(port, card.name, f"{prefix}-{host.name}"),
                    f"link set {port} master {card.network} up",
                ],
            )


def _make_cables(prefix: str, topology: Topology) -> None:
    made = [_veth(cable.near, cable.far.name, f"{prefix}-{cable.host.name}") for cable in cables(topology)]
    batch(f"{prefix}-{topology.gateway.name}", made)


def _ways(topology: Topology) -> Iterator[str]:
    """What the gateway needs on cables that share a network: each host by its own."""
    for cable in cables(topology):
        yield f"link set {cable.near} up"
        if cable.near != cable.network.name:
            for own in cable.network.addresses:
                nodad = " nodad" if own.version == 6 else ""
                yield f"address add {own}/{own.max_prefixlen} dev {cable.near}{nodad}"
        for far in (*cable.far.addresses, *cable.far.more_addresses):
            own = cable.network.address(far.version)
            yield f"route replace {far}/{far.max_prefixlen} dev {cable.near} src {own}"


def remove(record: Record) -> None:
    """End what runs in the namespaces that the lab made, and delete them with all their interfaces."""
    for name in list(record.namespaces):
        inode = record.owned(name)
        if inode is not None:
            while pids := process.members(inode):  # again: one may have forked meanwhile
                process.end(pids, inode)
            pins.remove(name)
            run(["ip", "netns", "delete", name])
        del record.namespaces[name]
        record.save()
