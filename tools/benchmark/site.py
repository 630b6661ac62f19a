"""The lab as the benchmark uses it: tuned, watched, and the same for every balancer.

A turn must not feel the turn before it. A client that closes first keeps the connection's port for
a minute (TIME_WAIT). When few ports are free connect(2) looks through thousands of them, and then it
is the client that is measured: 4,000 connections a second become 250. A backend's TIME_WAIT refuses
the same tuple to a client whose clock looks different through another balancer. So every turn has a
client address of its own, all ports, and leave to reuse them.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

from benchmark import BenchError
from netlab.command import find
from netlab.lab import Lab
from netlab.process import members
from netlab.record import namespace_inode

IPERF_PORT: Final = 5201
WEB_PORT: Final = 80

_LOCK: Final = Path("/run/l4lb-bench.lock")
_ASK: Final = Path(__file__).with_name("ask.py")
_READY: Final = 20.0  # seconds for a balancer to start and find its backends
_ASKED: Final = 30  # times, to see that every backend gets its share
_PROGRAMS: Final = ("haproxy", "iperf3", "nft", "nginx", "ss", "wrk")

# For hosts that open connections: the client, and the gateway when a proxy runs on it.
_MANY_CONNECTIONS: Final = ("net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1")


@dataclass(frozen=True, slots=True)
class Frontend:
    """Where the client finds what a balancer serves."""

    web: tuple[str, ...]  # HOST:PORT, one or one for each backend
    bulk: str  # host of iperf3


class Site:
    """The lab, up. Use ``open_site``."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.vip = lab.topology.vip(4)
        self.backends = tuple(host.address(4) for host in lab.topology.backends)
        self.directory = lab.host_directory("gateway")
        self.directory.mkdir(exist_ok=True)
        card = lab.topology.hosts["client"].interfaces[0]
        own = (*card.addresses, *card.more_addresses)
        self._addresses = cycle([str(address) for address in own if address.version == 4])

    @property
    def at_vip(self) -> Frontend:
        """What is served at the VIP."""
        return Frontend((f"{self.vip}:{WEB_PORT}",), self.vip)

    @property
    def at_backends(self) -> Frontend:
        """What the backends serve at their own addresses."""
        return Frontend(tuple(f"{address}:{WEB_PORT}" for address in self.backends), self.backends[0])

    def run(
        self, host: str, *argv: str, text: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, whatever its exit status.

        Raises:
            subprocess.TimeoutExpired: it took longer than ``timeout`` seconds, and was killed.
        """
        return subprocess.run(
            self.lab.command(host, find(argv[0]), *argv[1:]),
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
            done = self.run(host, *argv, text=text)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"'{' '.join(argv)}' on {host} did not end in {error.timeout:g} s") from None
        if done.returncode:
            complaint = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
            raise BenchError(f"'{' '.join(argv)}' on {host}: {complaint}")
        return done.stdout

    @contextmanager
    def server(self, host: str, port: int, *argv: str) -> Iterator[None]:
        """A program that listens on a TCP port of a host, for the length of a ``with``.

        Raises:
            BenchError: it does not get as far as listening; says its last words.
        """
        with self.process(host, *argv) as (process, log):
            deadline = time.monotonic() + _READY
            while not self.must(host, "ss", "-Hltn", f"sport = :{port}").strip():
                if process.poll() is not None:
                    raise BenchError(f"{argv[0]} ended: {last_line(log)}")
                if time.monotonic() > deadline:
                    raise BenchError(f"{argv[0]} does not listen on port {port} of {host}")
                time.sleep(0.02)
            yield

    @contextmanager
    def process(self, host: str, *argv: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """A program that runs on a host for the length of a ``with``, and the file it prints to."""
        log = self.directory / f"{Path(argv[0]).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.lab.command(host, find(argv[0]), *argv[1:]),
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
                str(_READY),
                str(count),
                str(_ASKED),
                *frontend.web,
            )
        )
        if len(answers) < count or min(answers.values()) < _ASKED // count // 2:
            raise BenchError(f"the backends do not take turns: of {_ASKED} requests they got {answers}")

    def next_client(self) -> None:
        """Let the client use the next of its addresses for all it connects to."""
        address = next(self._addresses)
        gateway = self.lab.topology.gateway.address(4)
        self.must("client", "ip", "route", "replace", self.vip, "dev", "eth0", "src", address)
        self.must("client", "ip", "route", "replace", "default", "via", gateway, "src", address)

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
        inode = namespace_inode(self.lab.namespace("gateway"))
        assert inode is not None
        left = [f"process {pid}" for pid in members(inode)]
        if self.must("gateway", "nft", "list", "ruleset").strip():
            left.append("nftables rules")
        if f" {self.vip}/" in self.must("gateway", "ip", "address", "show"):
            left.append("the VIP")
        if left:
            raise BenchError(f"the turn before has left {', '.join(left)} on the gateway")


def last_line(log: Path) -> str:
    """What a program said last."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


@contextmanager
def open_site(prefix: str) -> Iterator[Site]:
    """A lab of the benchmark's own; whatever has this prefix is removed before and after.

    Raises:
        BenchError: another benchmark runs, or this machine cannot run one.
        LabError: there can be no lab.
    """
    if os.geteuid() != 0:
        raise BenchError("balancers are measured on network namespaces: run it as root")
    for program in _PROGRAMS:
        find(program)
    lab = Lab(prefix)
    with ExitStack() as stack:
        lock = stack.enter_context(_LOCK.open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError("another benchmark runs on this machine: wait for its end") from None
        lab.down()
        stack.callback(lab.down)
        lab.up()
        site = Site(lab)
        for host in ("client", "gateway"):
            site.must(host, "sysctl", "-q", "-w", *_MANY_CONNECTIONS)
        yield site


def load_average() -> float:
    """Of the machine, one minute."""
    return os.getloadavg()[0]
