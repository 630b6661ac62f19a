"""The lab as the benchmark uses it: tuned, watched, and the same for every balancer.

Hosts are on cables of their own: a switch of the lab takes as much of the machine's time as a gateway, a
real one takes none.

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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from benchmark import BenchError
from benchmark.lab.cores import CORE, EVERYWHERE, on_one_core, stay
from benchmark.lab.hosts import RENO, Frontend, Hosts
from benchmark.lab.machine import only_bench
from netlab import ask, record
from netlab.command import find, inside, run
from netlab.daemon import READY
from netlab.lab import Lab
from netlab.network import MTU, cables, ready_for_xdp
from netlab.process import members

_ASK: Final = Path(ask.__file__)
_ASKED: Final = 30  # times, to see that every backend gets its share
_PROGRAMS: Final = ("ethtool", "iperf3", "nft", "nginx", "ss", "taskset", "unshare", "wrk")

_CLIENTS: Final = 64
"""Addresses of the client: a turn may last two seconds, and one is not to be used again within a minute."""

_CABLE: Final = "direct"  # interface of the client and of the first backend
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
        self._client = self._clients[0]

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
        answers = self.answers(frontend, count, _ASKED)
        if len(answers) < count or min(answers.values()) < _ASKED // count // 2:
            raise BenchError(f"the backends do not take turns: of {_ASKED} requests they got {answers}")

    def answers(self, frontend: Frontend, names: int, times: int) -> dict[str, int]:
        """Let the client ask web servers until so many have answered; how often each has then answered of
        some times more.

        Raises:
            BenchError: not so many do, or one does not any more.
        """
        numbers = (str(READY), str(names), str(times))
        said = self.must("client", sys.executable, "-I", str(_ASK), *numbers, *frontend.web)
        answers: dict[str, int] = json.loads(said)
        return answers

    @contextmanager
    def ready_for_xdp(self) -> Iterator[None]:
        with ready_for_xdp(self.lab.prefix, self.lab.topology):
            yield

    @contextmanager
    def joined(self) -> Iterator[None]:
        """With the client, by the address that it uses now, and the first backend on one cable."""
        client, backend = (self.lab.namespace(host) for host in ("client", self._first))
        veth = f"{_CABLE} mtu {MTU}"
        self.must("client", "ip", *f"link add {veth} type veth peer name {veth} netns {backend}".split())
        try:
            for host, other, own in (
                ("client", self.backends[0], self._client),
                (self._first, self._client, self.backends[0]),
            ):
                self.must(host, "ip", "link", "set", _CABLE, "up")
                self.must(host, "ip", "route", "replace", other, "dev", _CABLE, "src", own)
            yield
        finally:
            run(inside(client, find("ip"), "link", "delete", _CABLE))

    @property
    def _first(self) -> str:
        return self.lab.topology.backends[0].name

    def add_address(self, host: str, address: str) -> None:
        """Give a backend one more address, and the gateway a way to it."""
        self.must(host, "ip", "address", "add", f"{address}/32", "dev", "eth0")
        for cable in cables(self.lab.topology):
            if cable.host.name == host:
                self.must("gateway", "ip", "route", "replace", address, "dev", cable.near)

    @contextmanager
    def one_core(self) -> Iterator[None]:
        """With the servers, and all that is started meanwhile, on one core, and so what the kernel does
        for them. Of l4lb that is what packets pass through: its control process is free to go, as
        ``peers.l4lb`` has it.

        On one core a rate says what a request costs all of them together. On two, it says at least as much
        about which of them the scheduler has put side by side at the moment.
        """
        with on_one_core():
            try:
                self._stay({CORE})
                yield
            finally:
                self._stay(EVERYWHERE)

    def _stay(self, cores: Iterable[int]) -> None:
        for host in self.lab.topology.backends:
            for pid in self._processes(host.name):
                stay(pid, cores)

    def _processes(self, host: str) -> list[int]:
        inode = record.namespace_inode(self.lab.namespace(host))
        return [] if inode is None else members(inode)

    def check_clean(self) -> None:
        """See also that nothing is left on the other hosts.

        Raises:
            BenchError: something is; says what.
        """
        super().check_clean()
        for host in self.lab.topology.hosts.values():
            if host.role == "gateway":
                continue
            links = json.loads(self.must(host.name, "ip", "-j", "link", "show"))
            more = {link["ifname"] for link in links} - {"lo", *(card.name for card in host.interfaces)}
            if more:
                raise BenchError(f"the turn before has left the interface {', '.join(more)} on {host.name}")
            for pid in self._processes(host.name):
                with suppress(ProcessLookupError):
                    if os.sched_getaffinity(pid) != EVERYWHERE:
                        raise BenchError(
                            f"the turn before has left process {pid} of {host.name} on one core"
                        )

    def next_client(self) -> str:
        """Let the client use the next of its addresses for all it connects to; which one that is."""
        self._client = address = next(self._addresses)
        gateway = self.lab.topology.gateway.address(4)
        self.must("client", "ip", "route", "replace", self.vip, "dev", "eth0", "src", address)
        self.must("client", "ip", "route", "replace", "default", "via", gateway, "src", address)
        return address


@contextmanager
def open_site(prefix: str) -> Iterator[Site]:
    """A lab of the benchmark's own; whatever has this prefix is removed before and after.

    Raises:
        BenchError: this machine cannot run a benchmark.
        LabError: another one runs, or there can be no lab.
    """
    with only_bench(prefix, _PROGRAMS) as lab:
        lab.up(switched=False)
        site = Site(lab)
        site.add_clients()
        for host in lab.topology.hosts:
            site.must(host, "sysctl", "-q", "-w", RENO)
        for host in ("client", "gateway"):
            site.must(host, "sysctl", "-q", "-w", *_MANY_CONNECTIONS)
        yield site
