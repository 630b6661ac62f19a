"""The hosts and networks of the lab, as ``tools/lab.json`` describes them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netlab import LabError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FILE: Final = Path(__file__).resolve().parent.parent / "lab.json"
ROLES: Final = ("client", "gateway", "backend")


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

    @property
    def mac(self) -> str:
        """The Ethernet address that a virtual machine's card has, by which it is found there: locally
        administered, and the rest is the IPv4 address. The Vagrantfile has the same rule."""
        return ":".join(f"{byte:02x}" for byte in (2, 0, *self.address(4).packed))


@dataclass(frozen=True, slots=True)
class Host:
    """A host and what it is for."""

    name: str
    role: str
    interfaces: tuple[Interface, ...]
    cpus: int  # of its virtual machine
    memory: int  # MiB, of its virtual machine

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


def load(path: Path = FILE) -> Topology:
    """Read a topology file.

    Raises:
        LabError: it cannot be read, or there cannot be such a lab; says what is wrong first.
    """
    try:
        topology = _topology(json.loads(path.read_text()))
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from None
    except KeyError as error:
        raise LabError(f"{path}: there is no {error} where one is needed") from None
    except (TypeError, AttributeError):
        raise LabError(f"{path}: it is not laid out as the one that l4lb comes with") from None
    except ValueError as error:  # of json and ipaddress: one line each
        raise LabError(f"{path}: {error}") from None
    for complaint in _complaints(topology):
        raise LabError(f"{path}: {complaint}")
    return topology


def _topology(data: dict[str, Any]) -> Topology:
    return Topology(
        drawing=tuple(data["drawing"]),
        networks={
            name: tuple(ipaddress.ip_network(text) for text in prefixes)
            for name, prefixes in data["networks"].items()
        },
        hosts={
            name: Host(
                name,
                entry["role"],
                tuple(_interface(card, it) for card, it in entry["interfaces"].items()),
                entry["machine"]["cpus"],
                entry["machine"]["memory"],
            )
            for name, entry in data["hosts"].items()
        },
        vip_network=data["vips"]["network"],
        vips=tuple(ipaddress.ip_address(text) for text in data["vips"]["addresses"]),
    )


def _interface(name: str, entry: dict[str, Any]) -> Interface:
    return Interface(
        name,
        entry["network"],
        tuple(ipaddress.ip_address(text) for text in entry["addresses"]),
        tuple(ipaddress.ip_address(text) for text in entry.get("more_addresses", ())),
    )


def _complaints(topology: Topology) -> Iterator[str]:
    """Why there cannot be such a lab."""
    gateways = [host for host in topology.hosts.values() if host.role == "gateway"]
    if len(gateways) != 1:
        yield f"there has to be one gateway, not {len(gateways)}"
    owners: dict[Address, str] = {}
    places = [
        (f"{host.name} {card.name}", card.network, (*card.addresses, *card.more_addresses))
        for host in topology.hosts.values()
        for card in host.interfaces
    ]
    for owner, network, addresses in [*places, ("the VIPs", topology.vip_network, topology.vips)]:
        if network not in topology.networks:
            yield f"{owner}: there is no network '{network}'"
            continue
        if {4, 6} - {address.version for address in addresses}:
            yield f"{owner}: needs an IPv4 and an IPv6 address"
        for address in addresses:
            if address in owners:
                yield f"{owner}: {address} is already {owners[address]}'s"
            owners[address] = owner
            yield from (f"{owner}: {it}" for it in _misplaced(address, topology.networks[network], network))
    for host in topology.hosts.values():
        if host.role not in ROLES:
            yield f"{host.name}: there is no role '{host.role}'"
        if host.role == "gateway" and {card.network for card in host.interfaces} != set(topology.networks):
            yield f"{host.name}: the gateway has to be in every network"
        elif not host.interfaces:
            yield f"{host.name}: has no interface"


def _misplaced(address: Address, prefixes: tuple[Network, ...], network: str) -> Iterator[str]:
    prefix = next((prefix for prefix in prefixes if address in prefix), None)
    if prefix is None:
        yield f"{address} is not in the network '{network}', {' or '.join(map(str, prefixes))}"
    elif address == prefix.network_address or (
        address.version == 4 and address == prefix.broadcast_address
    ):
        yield f"{address} cannot be a host's: it is the first or last of {prefix}"
