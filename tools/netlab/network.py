"""Namespaces, cables and switches, made from the topology.

    PREFIX-HOST [ eth0 ]---------[ HOST-eth0 ]--( bridge NETWORK )   PREFIX-net

Every host is a namespace. The switches are bridges in one more namespace, so that the gateway has
exactly the interfaces that a real one would have. Nothing is ever made in the machine's own
namespace.
"""

from __future__ import annotations

from typing import Final

from netlab import LabError, pins, process, role
from netlab.command import batch, find, inside, run
from netlab.record import Record, namespace_inode
from netlab.topology import Host, Topology

SWITCH: Final = "net"
MTU: Final = 1500

_SWITCH: Final = (
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
    "net.bridge.bridge-nf-call-iptables=0",  # a switch does not look into IP, nor drop bad packets
    "net.bridge.bridge-nf-call-ip6tables=0",
    "net.bridge.bridge-nf-call-arptables=0",
)


def make(prefix: str, topology: Topology, record: Record) -> None:
    """Make all namespaces and everything in them.

    Raises:
        LabError: something is in the way or a command failed; what was made is in the record.
    """
    names = [f"{prefix}-{SWITCH}", *(f"{prefix}-{host}" for host in topology.hosts)]
    for name in names:
        if namespace_inode(name) is not None:
            raise LabError(
                f"a network namespace '{name}' is there already and is not the lab's: remove it with "
                f"'ip netns delete {name}', or choose another --prefix"
            )
    for name in names:
        record.namespaces[name] = None
        record.save()
        run(["ip", "netns", "add", name])
        record.namespaces[name] = namespace_inode(name)
        record.save()
    switch = names[0]
    # -e: not every kernel has bridge netfilter.
    run(inside(switch, find("sysctl"), "-q", "-e", "-w", *_SWITCH))
    batch(switch, [f"link add {name} mtu {MTU} type bridge mcast_snooping 0" for name in topology.networks])
    batch(switch, [f"link set {name} up" for name in topology.networks])
    # The gateway first: it is the next hop of all others.
    for host in sorted(topology.hosts.values(), key=lambda host: host.role != "gateway"):
        _make_host(prefix, host, topology)


def _make_host(prefix: str, host: Host, topology: Topology) -> None:
    namespace = f"{prefix}-{host.name}"
    cables = []
    for card in host.interfaces:
        port = f"{host.name}-{card.name}"
        cables += [
            f"link add {port} mtu {MTU} type veth peer name {card.name} mtu {MTU} netns {namespace}",
            f"link set {port} master {card.network} up",
        ]
    batch(f"{prefix}-{SWITCH}", cables)
    role.take(host, topology, namespace)


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
