"""Hosts to measure on: commands, programs that run there, and what the balancers have to know."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark import BenchError
from netlab import LabError
from netlab.command import find, run
from netlab.daemon import READY
from netlab.process import members
from netlab.record import namespace_inode

IPERF_PORT: Final = 5201
WEB_PORT: Final = 80
ONE_PORT: Final = 8081
"""The same web server, of the first backend alone. There it is another port too: a backend of two services
is not what most have, and more work for l4lb."""

RENO: Final = "net.ipv4.tcp_congestion_control=reno"
"""For all hosts: every kernel has it and lets a namespace choose it. What the machine has chosen for itself
may pace what it sends by timers (BBR), and then it is those that are measured."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """Where the client finds what a balancer serves."""

    web: tuple[str, ...]  # HOST:PORT, one or one for each backend
    one: str  # HOST:PORT, of the first web backend alone
    bulk: str  # host of iperf3


class Hosts:
    """A client, a gateway and backends, each in a network namespace of its own."""

    def __init__(
        self,
        inside: Callable[..., list[str]],
        gateway: str,
        directory: Path,
        vip: str,
        backends: Sequence[str],
        *,
        servers: bool,
    ) -> None:
        """Args:
        inside: the command line that runs another on a host, ``inside(host, *argv)``.
        gateway: the namespace of the gateway.
        directory: for files of the benchmark; made if it is not there.
        vip, backends: addresses.
        servers: there are servers at the backends.
        """
        self._inside = inside
        self.gateway = gateway
        self.directory = directory
        self.vip = vip
        self.backends = tuple(backends)
        self.servers = servers
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def at_vip(self) -> Frontend:
        """What is served at the VIP."""
        return Frontend((f"{self.vip}:{WEB_PORT}",), f"{self.vip}:{ONE_PORT}", self.vip)

    @property
    def at_backends(self) -> Frontend:
        """What the backends serve at their own addresses."""
        web = tuple(f"{address}:{WEB_PORT}" for address in self.backends)
        return Frontend(web, f"{self.backends[0]}:{ONE_PORT}", self.backends[0])

    def command(self, host: str, *argv: str) -> list[str]:
        """The command line that runs ``argv`` on a host."""
        return self._inside(host, find(argv[0]), *argv[1:])

    def run(
        self, host: str, *argv: str, text: str = "", timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, whatever its exit status.

        Raises:
            subprocess.TimeoutExpired: it took longer than ``timeout`` seconds, and was killed.
        """
        return subprocess.run(
            self.command(host, *argv),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def must(self, host: str, *argv: str, text: str = "") -> str:
        """Run a command on a host; what it printed.

        Raises:
            BenchError: it did not exit with 0, or not at all; says what it complained of.
        """
        try:
            return run(self.command(host, *argv), text, name=f"'{' '.join(argv)}' on {host}")
        except LabError as error:
            raise BenchError(str(error)) from None

    @contextmanager
    def server(self, host: str, port: int, *argv: str, name: str | None = None) -> Iterator[None]:
        """A program that listens on a TCP port of a host, for the length of a ``with``. ``name``: see
        ``process``; it is for people too.

        Raises:
            BenchError: it does not get as far as listening; says its last words.
        """
        with self.process(host, *argv, name=name) as (process, log):
            self.wait_listening(host, f"sport = :{port}", name or argv[0], process, log)
            yield

    def wait_listening(
        self, host: str, where: str, name: str, process: subprocess.Popen[bytes], log: Path
    ) -> None:
        """Until a program listens.

        Args:
            where: the TCP port or address, as ss(8) filters by it.
            name: of the program, for people.
            process, log: of it.

        Raises:
            BenchError: it ends, or does not get as far; says its last words.
        """
        deadline = time.monotonic() + READY
        while not self.must(host, "ss", "-Hltn", *where.split()).strip():
            if process.poll() is not None:
                raise BenchError(f"{name} ended: {_last_line(log)}")
            if time.monotonic() > deadline:
                raise BenchError(f"{name} does not listen on {host}, {where}: {_last_line(log)}")
            time.sleep(0.02)

    @contextmanager
    def process(
        self, host: str, *argv: str, name: str | None = None
    ) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """A program that runs on a host for the length of a ``with``, and the file it prints to; ``name``
        is of the file, where several of the same program run or it is run by another."""
        log = self.directory / f"{name or Path(argv[0]).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(host, *argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield process, log
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextmanager
    def ready_for_xdp(self) -> Iterator[None]:
        """With what the gateway's neighbours need to take frames from XDP."""
        yield

    @contextmanager
    def joined(self) -> Iterator[None]:
        """With the client and the first backend on one cable, by which they find each other."""
        raise NotImplementedError

    @contextmanager
    def vip_on_gateway(self) -> Iterator[None]:
        """Give the gateway the VIP, for balancers that do not do so themselves."""
        address = ("address", "add", f"{self.vip}/32", "dev", "eth0")
        self.must("gateway", "ip", *address)
        try:
            yield
        finally:
            self.must("gateway", "ip", "address", "delete", *address[2:])

    def check_clean(self) -> None:
        """See that a turn has left nothing on the gateway.

        Raises:
            BenchError: it has; says what.
        """
        inode = namespace_inode(self.gateway)
        assert inode is not None
        left = [f"process {pid}" for pid in members(inode)]
        if self.must("gateway", "nft", "list", "ruleset").strip():
            left.append("nftables rules")
        if f" {self.vip}/" in self.must("gateway", "ip", "address", "show"):
            left.append("the VIP")
        if " xdp" in self.must("gateway", "ip", "-o", "link", "show"):
            left.append("an XDP program")
        if left:
            raise BenchError(f"the turn before has left {', '.join(left)} on the gateway")


def _last_line(log: Path) -> str:
    """What a program said last."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
