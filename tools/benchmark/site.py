"""The lab as the benchmark uses it: tuned, watched, and the same for every balancer.

A turn must not feel the turn before it. A client that closes first keeps the connection's port for
a minute (TIME_WAIT). When few ports are free connect(2) looks through thousands of them, and then it
is the client that is measured: 4,000 connections a second become 250. A backend's TIME_WAIT refuses
the same tuple to a client whose clock looks different through another balancer. So every turn has a
client address of its own, all ports, and leave to reuse them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from benchmark import BenchError
from benchmark.hosts import READY, Frontend, Hosts
from netlab import record
from netlab.command import find, inside, run
from netlab.lab import Lab
from netlab.network import SWITCH

_LOCK: Final = Path("/run/l4lb-bench.lock")
_ASK: Final = Path(__file__).with_name("ask.py")
_ASKED: Final = 30  # times, to see that every backend gets its share
_PROGRAMS: Final = ("ethtool", "iperf3", "nft", "nginx", "ss", "taskset", "unshare", "wrk")

_CLIENTS: Final = 64
"""Addresses of the client: a turn may last two seconds, and one is not to be used again within a minute."""

# For hosts that open connections: the client, and the gateway when a proxy runs on it.
_MANY_CONNECTIONS: Final = ("net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1")


class Site(Hosts):
    """The lab, up. Use ``open_site``."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(
            lab.command,
            lab.namespace("gateway"),
            lab.host_directory("gateway"),
            lab.topology.vip(4),
            [host.address(4) for host in lab.topology.backends],
            servers=True,
        )
        self.lab = lab
        card = lab.topology.hosts["client"].interfaces[0]
        (network,) = (it for it in lab.topology.networks[card.network] if it.version == 4)
        self._clients = [str(address) for address in islice(reversed(list(network.hosts())), _CLIENTS)]
        self._addresses = cycle(self._clients)

    def add_clients(self) -> None:
        """Give the client all its addresses."""
        lines = [f"address add {address}/32 dev eth0" for address in self._clients]
        self.must("client", "ip", "-batch", "-", text="\n".join(lines) + "\n")

    def wait_serving(self, frontend: Frontend) -> None:
        """Until all web backends answer at the frontend; then see that they take turns.

        Raises:
            BenchError: they do not.
        """
        count = len(self.backends)
        answers: dict[str, int] = json.loads(
            self.must(
                "client",
                sys.executable,
                "-I",
                str(_ASK),
                str(READY),
                str(count),
                str(_ASKED),
                *frontend.web,
            )
        )
        if len(answers) < count or min(answers.values()) < _ASKED // count // 2:
            raise BenchError(f"the backends do not take turns: of {_ASKED} requests they got {answers}")

    @contextmanager
    def ready_for_xdp(self) -> Iterator[None]:
        """With GRO at the switch's ends of the gateway's cables: a veth takes frames from XDP only with
        that or a program of its own."""
        switch = f"{self.lab.prefix}-{SWITCH}"
        ports = [f"gateway-{card.name}" for card in self.lab.topology.gateway.interfaces]
        for port in ports:
            run(inside(switch, find("ethtool"), "-K", port, "gro", "on"))
        try:
            yield
        finally:
            for port in ports:
                run(inside(switch, find("ethtool"), "-K", port, "gro", "off"))

    def next_client(self) -> str:
        """Let the client use the next of its addresses for all it connects to; which one that is."""
        address = next(self._addresses)
        gateway = self.lab.topology.gateway.address(4)
        self.must("client", "ip", "route", "replace", self.vip, "dev", "eth0", "src", address)
        self.must("client", "ip", "route", "replace", "default", "via", gateway, "src", address)
        return address


@contextmanager
def only_bench(prefix: str) -> Iterator[Lab]:
    """The only benchmark on this machine; a lab that is down before and after.

    Raises:
        BenchError: this machine cannot run one.
        LabError: another benchmark runs, or another tool has the lab.
    """
    if os.geteuid() != 0:
        raise BenchError("balancers are measured on network namespaces: run it as root")
    for program in _PROGRAMS:
        find(program)
    lab = Lab(prefix)
    busy = "another benchmark runs on this machine: wait for its end"
    with record.held(_LOCK, busy), record.alone(prefix), ExitStack() as stack:
        lab.down()
        stack.callback(lab.down)
        yield lab


@contextmanager
def open_site(prefix: str) -> Iterator[Site]:
    """A lab of the benchmark's own; whatever has this prefix is removed before and after.

    Raises:
        BenchError: this machine cannot run a benchmark.
        LabError: another one runs, or there can be no lab.
    """
    with only_bench(prefix) as lab:
        lab.up()
        site = Site(lab)
        site.add_clients()
        for host in ("client", "gateway"):
            site.must(host, "sysctl", "-q", "-w", *_MANY_CONNECTIONS)
        yield site
