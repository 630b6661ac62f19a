"""The lab with l4lb and servers of all sorts on it, and what can be done to them. Edge."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from l4lb.cli.client import Client
from l4lb.datapath.ebpf import layout
from l4lb.datapath.libbpf import Map
from netlab.command import run
from netlab.daemon import Daemon, running
from netlab.lab import Lab, own
from netlab.network import ready_for_xdp
from soaking.config import PORTS, SERVICES, Service, config
from soaking.watch import Counts

_HERE: Final = Path(__file__).parent
_PATHS: Final = 256  # more than the services here can have

# To the clients, or to the ports of full NAT. The gateway's checks come from higher ones.
_SILENCE: Final = """\
table inet soak {
  chain output {
    type filter hook output priority 0;
    ip daddr 10.1.0.0/24 drop
    ip6 daddr 2001:db8:1::/64 drop
    meta l4proto { tcp, udp } th dport 10240-32767 drop
  }
}
"""


class Servers:
    """The servers of all backends: a process on each, of servers.py."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, backend: str) -> None:
        """Start those of a backend."""
        argv = self._lab.command(backend, sys.executable, "-I", str(_HERE / "servers.py"))
        with (self._lab.host_directory(backend) / "servers.log").open("ab") as log:
            self._running[backend] = subprocess.Popen(
                [*argv, *map(str, PORTS.values())], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def signal(self, backend: str, number: int) -> None:
        """Send a signal to those of a backend."""
        self._running[backend].send_signal(number)

    def kill(self, backend: str) -> None:
        """End those of a backend as a crash would."""
        process = self._running.pop(backend)
        process.kill()
        process.wait()

    def close(self) -> None:
        """End all."""
        for backend in list(self._running):
            self.kill(backend)


class Field:
    """Where it takes place. Use ``open_field``."""

    def __init__(self, lab: Lab, servers: Servers, daemon: Daemon) -> None:
        self.servers = servers
        self.daemon = daemon
        self.backends = [host.name for host in lab.topology.backends]
        self.client = Client(daemon.socket)
        self._lab = lab

    def address(self, service: Service, backend: str) -> str:
        """A backend of a service, as the config has it."""
        return service.at(self._lab.topology.hosts[backend].address(service.version))

    def counted(self) -> dict[str, Counts]:
        """What l4lb says of every backend of every service."""
        listed: list[dict[str, Any]] = self.client.get("backends")["backends"]
        return {f"{each['service']} {each['address']}": Counts.of(each) for each in listed}

    @contextmanager
    def traffic(self, seed: int) -> Iterator[subprocess.Popen[str]]:
        """The clients; see clients.py."""
        where: dict[str, list[tuple[str, int]]] = {}
        for service in SERVICES:
            vip = self._lab.topology.vip(service.version)
            where.setdefault(service.kind, []).append((vip, service.port))
        argv = (sys.executable, "-I", str(_HERE / "clients.py"), str(seed), json.dumps(where))
        pipe = subprocess.PIPE
        with subprocess.Popen(
            self._lab.command("client", *argv), stdin=pipe, stdout=pipe, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def cut(self) -> None:
        """Not a packet of a client any more, and none to one: not the last of a connection, nor what is
        sent again for want of an ACK. The backends are still there, and found so."""
        run(self._lab.command("client", "ip", "link", "set", "eth0", "down"))
        for backend in self.backends:
            run(self._lab.command(backend, "nft", "-f", "-"), _SILENCE)


@contextmanager
def programs(daemon: Daemon) -> Iterator[Callable[[], dict[str, Counts]]]:
    """Reads what the eBPF programs count, by path: of what is below 0, l4lb says 0."""
    with closing(Map.from_pin(next(daemon.pins.glob("l4lb/*/*/maps/loads")))) as loads:

        def read() -> dict[str, Counts]:
            entries, _ = loads.lookup_batch(None, _PATHS)
            found = [layout.LOAD.unpack(value) for _, value in entries]
            return {
                f"path {number}": Counts(load.half_open, load.established, load.outstanding)
                for number, load in enumerate(found)
            }

        yield read


@contextmanager
def open_field(prefix: str, datapath: str) -> Iterator[Field]:
    """The lab, up, with all on it; what has this prefix is removed before and after.

    Raises:
        LabError: there can be no lab, another tool has it, or l4lb does not start or stop.
    """
    with ExitStack() as stack:
        lab = stack.enter_context(own(prefix))
        lab.up()
        servers = Servers(lab)
        stack.callback(servers.close)
        for host in lab.topology.backends:
            servers.start(host.name)
        if datapath == "xdp":
            stack.enter_context(ready_for_xdp(prefix, lab.topology))
        gateway = partial(lab.command, "gateway"), lab.host_directory("gateway")
        daemon = stack.enter_context(running(*gateway, datapath, config(lab.topology, datapath)))
        yield Field(lab, servers, daemon)
