"""Servers on the lab's backends that can be slowed down and stalled.

There are more servers than backends: each is a process with an address of its own, and a backend has one
or two of them.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from benchmark import BenchError
from benchmark.lab.site import Site
from benchmark.latency.scenes import SERVERS, WORKERS, Action

PORT: Final = 8000  # the lab's own servers have port 80
_FIRST_ADDRESS: Final = 21  # of the backends' network
_TOOLS: Final = Path(__file__).parent.parent.parent


def script(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line of one of this package's programs."""
    return (
        "env",
        f"PYTHONPATH={_TOOLS}",
        sys.executable,
        "-P",
        "-m",
        f"{__package__}.{module}",
        *arguments,
    )


@dataclass(frozen=True, slots=True)
class Report:
    """What a server says about a plan that is over; see ``server``."""

    served: int
    late: float


@dataclass(frozen=True, slots=True)
class Server:
    """One backend, and the host that it is on."""

    name: str
    address: str
    host: str
    orders: IO[str]
    reports: IO[str]

    def follow(self, plan: Sequence[tuple[float, float, float]]) -> Report:
        """Begin a plan; what has been since the last one.

        Raises:
            BenchError: the server has ended.
        """
        try:
            self.orders.write(json.dumps(list(plan)) + "\n")
            self.orders.flush()
            return Report(**json.loads(self.reports.readline()))
        except (OSError, ValueError):
            raise BenchError(f"the server {self.name} has ended") from None


class Pool:
    """The servers and the hosts around them."""

    def __init__(self, site: Site, servers: Sequence[Server]) -> None:
        self.site = site
        self.servers = tuple(servers)

    @property
    def addresses(self) -> list[str]:
        """HOST:PORT of every server."""
        return [f"{server.address}:{PORT}" for server in self.servers]

    def begin(self, actions: Sequence[Action], start: float) -> None:
        """Let the actions happen; time 0 is ``start`` of the monotonic clock."""
        for number, server in enumerate(self.servers):
            its = [action for action in actions if action.server == number]
            server.follow([(start + action.at, action.speed, action.pace) for action in its])

    def end(self) -> list[Report]:
        """All servers as usual again; what they have done since ``begin``."""
        return [server.follow([]) for server in self.servers]

    def wait_serving(self) -> None:
        """Until every server has answered through the balancer at the VIP.

        Raises:
            BenchError: one does not.
        """
        self.site.answers(self.site.at_vip, len(self.servers), 0)


@contextmanager
def open_pool(site: Site) -> Iterator[Pool]:
    """Servers on the lab's backends, ready; they end with the lab's hosts, or before.

    Raises:
        BenchError: one does not start.
    """
    hosts = site.lab.topology.backends
    network = ipaddress.ip_network(f"{hosts[0].address(4)}/24", strict=False)
    with ExitStack() as stack:
        servers = []
        for number in range(SERVERS):
            host = hosts[number % len(hosts)].name
            address = str(network[_FIRST_ADDRESS + number])
            site.add_address(host, address)
            servers.append(stack.enter_context(_server(site, host, f"server{number + 1}", address)))
        yield Pool(site, servers)


@contextmanager
def _server(site: Site, host: str, name: str, address: str) -> Iterator[Server]:
    command = site.command(host, *script("server", name, address, str(PORT), str(WORKERS)))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        server = Server(name, address, host, process.stdin, process.stdout)
        server.follow([])  # it answers when it listens
        try:
            yield server
        finally:
            process.terminate()
