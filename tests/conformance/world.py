"""The small network that every packet case plays in.

    client      10.1.0.2     ─┐                                 ┌─ web1    10.2.0.11
    second      10.1.0.3      │        ┌─────────┐              ├─ web2    10.2.0.12
    narrow      10.1.0.9 *    ├─ lan0 ─┤ gateway ├─ wan0 ───────┼─ slim    10.2.0.13 *
    router      10.1.0.254   ─┘   .1   └─────────┘   .1         ├─ inside  10.2.0.50
      └─ far    198.51.100.7      .100 is the VIP               └─ border  10.2.0.254

IPv6 is the same with 2001:db8:1::/64 and 2001:db8:2::/64. The route to a host marked * has an MTU
of 1,400, all else 1,500. ``lost`` (203.0.113.9) has no route; the default route is the router.
``inside`` is a client among the backends, ``border`` a router among them.

Nothing here comes from l4lb. An engine sets this network up, or pretends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

MTU: Final = 1500
NARROW_MTU: Final = 1400


class Side(Enum):
    """A side of the gateway, by the name of its interface there."""

    CLIENTS = "lan0"
    BACKENDS = "wan0"


class Host(NamedTuple):
    """An address and a port."""

    ip: str
    port: int

    def at(self, port: int) -> Host:
        """The same host, another port."""
        return Host(self.ip, port)

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True)
class Net:
    """The hosts by one version of IP, and what ICMP calls things there: (type, code)."""

    version: int
    vip: Host
    client: Host
    second: Host
    narrow: Host
    far: Host
    lost: Host
    web1: Host
    web2: Host
    slim: Host
    inside: Host
    router: Host
    border: Host
    lan: Host  # the gateway's own addresses
    wan: Host
    unreachable: tuple[int, int]  # host unreachable, address unreachable
    port_unreachable: tuple[int, int]
    too_big: tuple[int, int]
    time_exceeded: tuple[int, int]
    parameter_problem: tuple[int, int]
    echo: tuple[int, int]
    echo_reply: tuple[int, int]

    @property
    def header(self) -> int:
        """Bytes of an IP header without options."""
        return 20 if self.version == 4 else 40

    def __str__(self) -> str:
        return f"v{self.version}"


def _net(version: int, lan: str, wan: str, far: str, lost: str, icmp: dict[str, tuple[int, int]]) -> Net:
    def host(prefix: str, number: int, port: int) -> Host:
        digits = str(number) if version == 4 else f"{number:x}"
        return Host(prefix + digits, port)

    return Net(
        version,
        vip=host(lan, 100, 80),
        client=host(lan, 2, 40_000),
        second=host(lan, 3, 40_000),
        narrow=host(lan, 9, 40_000),
        far=Host(far, 40_000),
        lost=Host(lost, 8080),
        web1=host(wan, 11, 8080),
        web2=host(wan, 12, 8080),
        slim=host(wan, 13, 8080),
        inside=host(wan, 50, 40_000),
        router=host(lan, 254, 0),
        border=host(wan, 254, 0),
        lan=host(lan, 1, 0),
        wan=host(wan, 1, 0),
        **icmp,
    )


V4: Final = _net(
    4,
    "10.1.0.",
    "10.2.0.",
    "198.51.100.7",
    "203.0.113.9",
    {
        "unreachable": (3, 1),
        "port_unreachable": (3, 3),
        "too_big": (3, 4),
        "time_exceeded": (11, 0),
        "parameter_problem": (12, 0),
        "echo": (8, 0),
        "echo_reply": (0, 0),
    },
)
V6: Final = _net(
    6,
    "2001:db8:1::",
    "2001:db8:2::",
    "2001:db8:f::7",
    "2001:db8:dead::9",
    {
        "unreachable": (1, 3),
        "port_unreachable": (1, 4),
        "too_big": (2, 0),
        "time_exceeded": (3, 0),
        "parameter_problem": (4, 0),
        "echo": (128, 0),
        "echo_reply": (129, 0),
    },
)
NETS: Final = (V4, V6)

PREFIXES: Final = {
    Side.CLIENTS: (ip_network("10.1.0.0/24"), ip_network("2001:db8:1::/64")),
    Side.BACKENDS: (ip_network("10.2.0.0/24"), ip_network("2001:db8:2::/64")),
}
UNREACHABLE: Final = (ip_network("203.0.113.0/24"), ip_network("2001:db8:dead::/48"))
NARROW_HOSTS: Final = tuple(host.ip for net in NETS for host in (net.narrow, net.slim))

GATEWAY_MAC: Final = {Side.CLIENTS: "02:00:00:01:00:01", Side.BACKENDS: "02:00:00:02:00:01"}


def packed_mac(text: str) -> bytes:
    """The six bytes of ``02:00:00:00:00:01``."""
    return bytes.fromhex(text.replace(":", ""))


class NextHop(NamedTuple):
    """Where the gateway sends a packet."""

    side: Side
    address: str  # of the neighbour
    mtu: int

    @property
    def mac(self) -> str:
        """Of the neighbour. Each has its own, so that a packet sent to the wrong one shows."""
        side = 1 if self.side is Side.CLIENTS else 2
        return f"02:00:00:0{side}:01:{ip_address(self.address).packed[-1]:02x}"


def side_of(address: str) -> Side | None:
    """The side whose prefix an address is in."""
    ip = ip_address(address)
    for side, prefixes in PREFIXES.items():
        if any(ip in prefix for prefix in prefixes):
            return side
    return None


OWN: Final = frozenset(host.ip for net in NETS for host in (net.vip, net.lan, net.wan))

BROADCASTS: Final = frozenset(
    prefix.broadcast_address
    for prefix in (ip_network("255.255.255.255/32"), *(prefixes[0] for prefixes in PREFIXES.values()))
)


def route(address: str) -> NextHop | None:
    """The gateway's next hop towards an address; None without one, for its own addresses and for those
    that are nobody's."""
    ip = ip_address(address)
    if address in OWN or any(ip in prefix for prefix in UNREACHABLE):
        return None
    if ip.is_multicast or ip.is_loopback or ip in BROADCASTS:
        return None
    side = side_of(address)
    if side is not None:
        return NextHop(side, address, NARROW_MTU if address in NARROW_HOSTS else MTU)
    return NextHop(Side.CLIENTS, (V6 if ":" in address else V4).router.ip, MTU)
