"""A machine becomes a host of the lab: its settings, addresses and routes.

The same for a network namespace, where ``network`` has put the cables, and for a virtual machine, whose
cables are its hypervisor's. Can be done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from netlab.command import batch, find, inside, run
from netlab.topology import Host, Topology

# The machine's own settings are inherited in part: say all that matter.
_SETTINGS: Final = (
    "net.ipv6.conf.all.disable_ipv6=0",
    "net.ipv6.conf.default.disable_ipv6=0",
    "net.ipv6.conf.all.accept_dad=0",  # an address works at once
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
)


def take(
    host: Host, topology: Topology, namespace: str | None, cards: Mapping[str, str] | None = None
) -> None:
    """Give a machine a host's role.

    Args:
        host: what it is to be.
        topology: the lab that the host is in.
        namespace: which machine; None: this one.
        cards: what the host's interfaces are called there, if not as in the topology. Such a machine has
            one more interface, for who looks after it, and its default route is there: it gets routes to
            the lab's networks only.

    Raises:
        LabError: a command failed.
    """
    own = {card.name: card.name for card in host.interfaces} if cards is None else cards
    run(inside(namespace, find("sysctl"), "-q", "-w", *settings(host, own.values() if cards else ())))
    batch(namespace, commands(host, topology, own, default=cards is None))


def settings(host: Host, cards: Iterable[str] = ()) -> list[str]:
    """What sysctl(8) is to write, in this order."""
    forwarding = int(host.role == "gateway")
    return [
        # Forwarding first: the kernel resets other settings when it changes.
        f"net.ipv4.ip_forward={forwarding}",
        f"net.ipv6.conf.all.forwarding={forwarding}",
        *_SETTINGS,
        *(f"net.ipv4.conf.{card}.rp_filter=0" for card in cards),
    ]


def commands(host: Host, topology: Topology, cards: Mapping[str, str], *, default: bool) -> list[str]:
    """What ip(8) is to do: addresses, and the ways to the other networks or, ``default``, to all."""
    lines = ["link set lo up"]
    for card in host.interfaces:
        name = cards[card.name]
        lines.append(f"link set {name} up")
        for address in (*card.addresses, *card.more_addresses):
            length = topology.prefix_length(card.network, address.version)
            line = f"address replace {address}/{length} dev {name}"
            if address.version == 6:
                # Deprecated: the kernel does not choose it as a source, but who binds it may use it.
                line += " nodad" + (" preferred_lft 0" if address in card.more_addresses else "")
            lines.append(line)
    if host.role == "gateway":
        return lines
    near = host.interfaces[0].network
    for address in topology.gateway.interface(near).addresses:
        far = [
            str(prefix)
            for network, prefixes in topology.networks.items()
            for prefix in prefixes
            if network != near and prefix.version == address.version
        ]
        lines += [f"route replace {there} via {address}" for there in (["default"] if default else far)]
    return lines
