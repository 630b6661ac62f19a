"""The SYN that scapy builds, of which the others are copies. Pure.

Importing this imports scapy, which takes a quarter of a second: ``segments`` does so on first use.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from scapy.config import conf

# Before scapy's layers: they would read all routes of the host, to choose a source address that is given
# here. With 20,000 routes that takes seconds, for which all threads stand still, and 400 MB for good.
conf.route_autoload = conf.route6_autoload = False

from scapy.layers.inet import IP, TCP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402

from l4lb.model import Endpoint  # noqa: E402

_MSS: Final = {4: 1460, 6: 1440}  # of Ethernet; nothing of that size is ever sent to us


def syn_template(source: bytes, target: Endpoint) -> bytes:
    """The IP packet that begins a handshake, with source port and sequence number 0.

    Args:
        source: our address, packed.
        target: the backend.
    """
    ours = str(ipaddress.ip_address(source))
    tcp_header = TCP(sport=0, dport=target.port, seq=0, flags="S", options=[("MSS", _MSS[target.version])])
    if target.version == 4:
        return bytes(IP(src=ours, dst=target.host, flags="DF") / tcp_header)
    return bytes(IPv6(src=ours, dst=target.host) / tcp_header)
