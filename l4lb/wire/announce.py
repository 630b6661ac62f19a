"""Frames that tell a link who has an address now: gratuitous ARP and unsolicited neighbour
advertisements.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from l4lb.wire import ipv6
from l4lb.wire.checksum import checksum, pseudo_header

_BROADCAST: Final = b"\xff" * 6
_ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
_ALL_NODES_MAC: Final = bytes.fromhex("333300000001")  # RFC 2464 section 7

# Destination, source, type; then the ARP packet of RFC 826.
_ARP: Final = Struct("!6s6sH HHBBH 6s4s6s4s")
_ETHERTYPE_ARP: Final = 0x0806
_ARP_REQUEST: Final = 1
_ARP_REPLY: Final = 2

_ETHERNET: Final = Struct("!6s6sH")
_ETHERTYPE_IPV6: Final = 0x86DD
_ICMPV6: Final = 58
# Type, code, checksum, flags, target; then the option: its type, its length in 8 bytes, the address.
_ADVERTISEMENT: Final = Struct("!BBHI16s BB6s")
_NEIGHBOR_ADVERTISEMENT: Final = 136
_ROUTER: Final = 1 << 31
_OVERRIDE: Final = 1 << 29
_TARGET_LINK_LAYER_ADDRESS: Final = 2


def gratuitous_arp(mac: bytes, ip: bytes, *, reply: bool = False) -> bytes:
    """The Ethernet frame that announces an IPv4 address (4 bytes) as being at ``mac`` (6 bytes).

    A request as in RFC 5227 section 3, or, for hosts that listen to nothing else, the reply form of
    RFC 5944 section 4.6: sender and target are the same there.
    """
    operation = _ARP_REPLY if reply else _ARP_REQUEST
    target = mac if reply else bytes(6)
    return _ARP.pack(_BROADCAST, mac, _ETHERTYPE_ARP, 1, 0x0800, 6, 4, operation, mac, ip, target, ip)


def unsolicited_na(mac: bytes, ip: bytes) -> bytes:
    """The Ethernet frame that announces an IPv6 address (16 bytes) as being at ``mac`` (6 bytes).

    RFC 4861 section 7.2.6: to all nodes, from the address itself, with the override flag so that
    caches take it over an older one, and with the router flag, which a gateway must set.
    """
    body = _ADVERTISEMENT.pack(
        _NEIGHBOR_ADVERTISEMENT, 0, 0, _ROUTER | _OVERRIDE, ip, _TARGET_LINK_LAYER_ADDRESS, 1, mac
    )
    total = checksum(body, pseudo_header(ip, _ALL_NODES, _ICMPV6, len(body)))
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    # Receivers take no other hop limit: 255 proves that no router passed it on (section 7.1.2).
    packet = ipv6.build(ip, _ALL_NODES, _ICMPV6, body, hop_limit=255)
    return _ETHERNET.pack(_ALL_NODES_MAC, mac, _ETHERTYPE_IPV6) + packet
