"""The gateway's address towards each backend: what a backend of full NAT sees. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from l4lb.netlink.interfaces import contains
from l4lb.netlink.routing import NextHop, RoutingTable
from l4lb.netlink.state import KernelState


def sources_towards(
    state: KernelState, table: RoutingTable, backends: Iterable[bytes]
) -> dict[bytes, bytes]:
    """The source address for each backend (packed) that has a route and for which there is one.

    The route's preferred source, or else, as in ``inet_select_addr()`` (net/ipv4/devinet.c), the
    address of the outgoing interface whose subnet the next hop is in, or else its first. Link-local
    IPv6 addresses do not count, since backends answer to the address from anywhere.
    """
    found = ((ip, _source(state, table.lookup(ip), len(ip))) for ip in set(backends))
    return {ip: source for ip, source in found if source is not None}


def _source(state: KernelState, hop: NextHop | None, size: int) -> bytes | None:
    if hop is None:
        return None
    if hop.source is not None:
        return hop.source
    own = [
        address
        for address in state.addresses
        if address.index == hop.index
        and len(address.ip) == size
        and not ip_address(address.ip).is_link_local
    ]
    near = [address for address in own if contains(address.ip, address.length, hop.address)]
    # A VIP is an address of the full length; better one that is the gateway's own.
    own.sort(key=lambda address: address.length == 8 * size)
    return next((address.ip for address in near or own), None)
