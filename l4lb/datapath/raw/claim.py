"""The claim: which packets the raw datapath takes from the host. Pure.

A packet socket gets a copy of every packet, so whatever the datapath acts on must be kept from the
host's stack, and nothing else. The claim says this in three forms, one for each place that needs it:

- ``nft_ruleset``: the shield, which drops exactly the claimed packets behind the packet sockets;
- ``packet_filter``: a socket filter, so that only claimed packets (and few others) reach Python;
- ``covers``: the same question asked of one parsed packet.

It needs only addresses and ports, not the connection table, so some claimed packets turn out not to
be the balancer's: the reply of a backend to a client that connected to it directly, a fragment of
the host's own traffic. The datapath sends such a frame out of the interface it came from, marked
HAND_BACK_MARK, and the kernel turns it round into its own ingress (see ``shield``).

Claimed are, of the frames that come in addressed to the interface's own MAC and are of no VLAN (a frame
of one belongs to the VLAN's own interface; one with a priority alone has the tag of VLAN 0, which is none):

1. TCP and UDP to a service's address and port.
2. TCP and UDP from a backend's address and port to an address that is not the gateway's. What comes
   to the gateway itself is the reply to a health check.
3. Under full NAT instead: from a backend's address and port to the gateway, port range ``snat_ports``.
4. Fragments, which do not all show their ports: to a VIP, or from a backend's address as in 2 and 3.
   For IPv6 any packet with a fragment header.
5. ICMP errors: to a VIP, or about a packet to a backend's address, with the destination as in 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from l4lb import classic_bpf
from l4lb.datapath.raw import claim_bpf, claim_nft
from l4lb.director.parse import Packet
from l4lb.model import Nat, Plan

HAND_BACK_MARK: Final = 0x6C34_6C62
"""SO_MARK of frames that go back to the kernel ("l4lb" in ASCII). No packet brings it along from the
wire; the shield clears it before the stack sees the frame."""

Transport = tuple[bytes, int, int]
"""Packed address, protocol number, port."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The claimed packets of one plan. Two plans with equal claims need the same shield."""

    services: frozenset[Transport]
    backends: frozenset[Transport]  # of services with destination NAT
    full_backends: frozenset[Transport]  # of services with full NAT
    snat_ports: tuple[int, int]
    vips: frozenset[bytes]  # the addresses alone, as fragments and ICMP errors show no more
    servers: frozenset[bytes]
    full_servers: frozenset[bytes]

    @classmethod
    def of(cls, plan: Plan, former: Claim | None = None) -> Claim:
        """The claim of a plan. Connections with full NAT keep their source ports when the plan has others:
        those of the ``former`` claim and what lies between stay claimed, until the process ends."""
        services: set[Transport] = set()
        backends: set[Transport] = set()
        full_backends: set[Transport] = set()
        for service in plan.services:
            protocol = int(service.protocol)
            services.add((service.address.ip, protocol, service.address.port))
            into = full_backends if service.nat is Nat.FULL else backends
            into.update(
                (backend.address.ip, protocol, backend.address.port) for backend in service.backends
            )
        low, high = plan.snat_ports
        if former is not None and former.full_backends:
            low, high = min(low, former.snat_ports[0]), max(high, former.snat_ports[1])
        return cls(
            services=frozenset(services),
            backends=frozenset(backends),
            full_backends=frozenset(full_backends),
            snat_ports=(low, high),
            vips=frozenset(ip for ip, _, _ in services),
            servers=frozenset(ip for ip, _, _ in backends),
            full_servers=frozenset(ip for ip, _, _ in full_backends),
        )

    def covers(self, packet: Packet, local: frozenset[bytes]) -> bool:
        """True if the shield keeps this packet from the host: then it is lost unless the datapath
        forwards it or hands it back.

        The packet must have come through ``packet_filter``, which stands for the frame's MAC
        address and VLAN tag. ``local`` are the gateway's own addresses, packed. For an ICMP error
        whose quotation cannot be read the answer is a guess: an error that the host sees twice
        does no harm, one that is lost does.
        """
        source, destination = packet.source, packet.destination
        to_gateway = destination in local
        if packet.is_fragment:
            return destination in self.vips or source in (self.full_servers if to_gateway else self.servers)
        if packet.icmp_error:
            if destination in self.vips:
                return True
            servers = self.full_servers if to_gateway else self.servers
            if packet.quoted is None:  # of a fragment, or cut short: the filter has seen its address
                return bool(servers)
            return packet.quoted.destination in servers
        if (destination, packet.protocol, packet.dport) in self.services:
            return True
        sender = (source, packet.protocol, packet.sport)
        if to_gateway:
            low, high = self.snat_ports
            return sender in self.full_backends and low <= packet.dport <= high
        return sender in self.backends

    def nft_ruleset(
        self, interfaces: Sequence[str], *, gone: Iterable[str] = (), expires_in: float | None = None
    ) -> str:
        """The shield on these interfaces, as input for ``nft -f``: one transaction that makes a table
        or changes the one there is. What both claim is not let through for a moment between.

        Args:
            interfaces: must exist, or the kernel refuses the whole transaction.
            gone: interfaces that the table may have a chain for, and shall not. Others keep
                theirs, without a rule in it.
            expires_in: seconds after which the shield lets everything pass, without any process
                to tell it so; None is never.

        Raises:
            ValueError: an interface's name cannot be written in an nft ruleset.
        """
        return claim_nft.ruleset(self, HAND_BACK_MARK, interfaces, gone, expires_in)

    def packet_filter(self, option_memory: int = claim_bpf.OPTION_MEMORY) -> bytes:
        """A filter for SO_ATTACH_FILTER on an ETH_P_ALL SOCK_RAW socket: an array of ``struct
        sock_filter``, 8 bytes each.

        It accepts every claimed packet, and of the others only what it cannot tell from them: it
        does not know the gateway's addresses. Where the addresses are too many it gets coarser, see
        ``claim_bpf``.

        Args:
            option_memory: bytes of socket option memory that the filter may take. While a filter is
                replaced both count, so ask for less than half of net.core.optmem_max. The default
                suits the 20 KiB that kernels before 6.8 have.
        """
        return classic_bpf.pack(claim_bpf.program(self, HAND_BACK_MARK, option_memory))
