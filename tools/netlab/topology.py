"""The hosts and networks of the lab, as ``tools/lab.json`` describes them."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FILE: Final = Path(__file__).resolve().parent.parent / "lab.json"


@dataclass(frozen=True, slots=True)
class Interface:
    """One network card of a host."""

    name: str
    network: str
    addresses: tuple[Address, ...]
    more_addresses: tuple[Address, ...]  # the host's too, but only used by who asks for them

    def address(self, version: int) -> Address:
        """The interface's own address of IP version 4 or 6."""
        return next(address for address in self.addresses if address.version == version)


@dataclass(frozen=True, slots=True)
class Host:
    """A host and what it is for."""

    name: str
    role: str
    interfaces: tuple[Interface, ...]

    def interface(self, network: str) -> Interface:
        """The host's interface in a network."""
        return next(interface for interface in self.interfaces if interface.network == network)

    def address(self, version: int) -> str:
        """The address of IP version 4 or 6 on the host's first interface."""
        return str(self.interfaces[0].address(version))


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole lab."""

    drawing: tuple[str, ...]
    networks: dict[str, tuple[Network, ...]]
    hosts: dict[str, Host]
    vip_network: str
    vips: tuple[Address, ...]

    @property
    def gateway(self) -> Host:
        """The one host that forwards."""
        return next(host for host in self.hosts.values() if host.role == "gateway")

    @property
    def backends(self) -> list[Host]:
        """The hosts with servers on them."""
        return [host for host in self.hosts.values() if host.role == "backend"]

    def vip(self, version: int) -> str:
        """The VIP of IP version 4 or 6."""
        return next(str(vip) for vip in self.vips if vip.version == version)

    def prefix_length(self, network: str, version: int) -> int:
        """The length of a network's prefix, in bits."""
        return next(net.prefixlen for net in self.networks[network] if net.version == version)


def _interface(name: str, entry: dict[str, Any]) -> Interface:
    return Interface(
        name,
        entry["network"],
        tuple(ipaddress.ip_address(text) for text in entry["addresses"]),
        tuple(ipaddress.ip_address(text) for text in entry.get("more_addresses", ())),
    )


def load(path: Path = FILE) -> Topology:
    """Read a topology file."""
    data = json.loads(path.read_text())
    return Topology(
        drawing=tuple(data["drawing"]),
        networks={
            name: tuple(ipaddress.ip_network(text) for text in prefixes)
            for name, prefixes in data["networks"].items()
        },
        hosts={
            name: Host(
                name, entry["role"], tuple(_interface(card, it) for card, it in entry["interfaces"].items())
            )
            for name, entry in data["hosts"].items()
        },
        vip_network=data["vips"]["network"],
        vips=tuple(ipaddress.ip_address(text) for text in data["vips"]["addresses"]),
    )
