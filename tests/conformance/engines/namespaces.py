"""The network of world.py in three network namespaces, for engines that run on a real kernel.

    clients ---- lan0  gateway  wan0 ---- backends

Only the gateway has an IP stack. On the other two there are packet sockets and nothing that could
answer by itself; all their hosts are permanent neighbours of the gateway. Links take larger packets
than the routes have as their MTU, so that a packet that is too long can be sent.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

from netlab.command import inside
from tests.conformance.world import (
    GATEWAY_MAC,
    MTU,
    NARROW_HOSTS,
    NARROW_MTU,
    NETS,
    OWN,
    PREFIXES,
    UNREACHABLE,
    Host,
    NextHop,
    Side,
    side_of,
)

PREFIX: Final = "l4cf"
_LINK_MTU: Final = 9_000
_NUMBERS: Final = count(1)
_ROLES: Final = ("gateway", *(side.name.lower() for side in Side))

# The machine's own settings are inherited in part: say all that matter.
_QUIET: Final = "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"
_GATEWAY: Final = """
    net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0
    net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
    net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
    net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
"""


class Namespaces:
    """The three namespaces, from ``up`` to ``down``."""

    def __init__(self) -> None:
        number = next(_NUMBERS)
        self._names = {role: f"{PREFIX}-{os.getpid()}-{number}-{role}" for role in _ROLES}

    @property
    def gateway(self) -> str:
        """The name of the gateway's namespace."""
        return self._names["gateway"]

    def peer(self, side: Side) -> str:
        """The name of the namespace at the other end of a side's link."""
        return self._names[side.name.lower()]

    def up(self) -> None:
        """Make them."""
        for name in self._names.values():
            _run("ip", "netns", "add", name)
        for side in Side:
            _sysctl(self.peer(side), _QUIET)
        _sysctl(self.gateway, _GATEWAY)
        for side in Side:
            _batch(self.peer(side), f"link add peer mtu {_LINK_MTU} type veth peer name {side.value}")
            _batch(self.peer(side), f"link set {side.value} netns {self.gateway}", "link set peer up")
        _batch(self.gateway, "link set lo up", *(line for side in Side for line in _gateway_lines(side)))
        _batch(self.gateway, *_far_routes())

    def down(self) -> None:
        """Remove them and all that is in them."""
        for name in self._names.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _gateway_lines(side: Side) -> Iterator[str]:
    link = side.value
    yield f"link set {link} address {GATEWAY_MAC[side]} mtu {_LINK_MTU} up"
    for net in NETS:
        own = (net.vip, net.lan) if side is Side.CLIENTS else (net.wan,)
        for host in own:
            yield f"address add {host.ip}/{_bits(host)} dev {link}{' nodad' if net.version == 6 else ''}"
        for address in _addresses(side, net.version):
            mac = NextHop(side, address, MTU).mac
            yield f"neighbour add {address} lladdr {mac} dev {link} nud permanent"
    for prefix in PREFIXES[side]:
        yield f"route add {prefix} dev {link} mtu {MTU}"
        if prefix.version == 4:  # comes with an address of the subnet, but not with one of 32 bits
            yield f"route add broadcast {prefix.broadcast_address} dev {link} table local"


def _far_routes() -> Iterator[str]:
    for address in NARROW_HOSTS:
        side = side_of(address)
        assert side is not None
        yield f"route add {address} dev {side.value} mtu {NARROW_MTU}"
    for prefix in UNREACHABLE:
        yield f"route add unreachable {prefix}"
    for net in NETS:
        yield f"route add default via {net.router.ip} dev {Side.CLIENTS.value} mtu {MTU}"


def _bits(host: Host) -> int:
    return 128 if ":" in host.ip else 32


def _addresses(side: Side, version: int) -> list[str]:
    """Of all hosts that a side has room for."""
    prefix = next(prefix for prefix in PREFIXES[side] if prefix.version == version)
    return [str(prefix[number]) for number in range(2, 255) if str(prefix[number]) not in OWN]


def _batch(namespace: str, *lines: str) -> None:
    _run(*inside(namespace, "ip", "-batch", "-"), text="\n".join(lines) + "\n")


def _sysctl(namespace: str, settings: str) -> None:
    _run("nsenter", f"--net=/run/netns/{namespace}", "sysctl", "-q", "-w", *settings.split())


def _run(*argv: str, text: str = "") -> None:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")


def remove_abandoned() -> None:
    """Take down what killed runs have left."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*"):
        match = re.fullmatch(rf"{PREFIX}-(\d+)-\d+-\w+", path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            subprocess.run(["ip", "netns", "delete", path.name], capture_output=True, check=False)
