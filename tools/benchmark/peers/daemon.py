"""A running l4lb on the gateway, asked as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark import BenchError
from benchmark.lab.hosts import EVERYWHERE, READY, Hosts, last_line, stay

L4LB: Final = Path(sys.executable).with_name("l4lb")
KERNEL_DATAPATHS: Final = ("tc", "xdp")
DATAPATHS: Final = ("raw", *KERNEL_DATAPATHS)

# The pins of eBPF outlive the daemon. A gateway of its own has a file system of its own for them, which
# goes with it; on the machine's, it would meet the l4lb of others.
_PINS: Final = "mount -t bpf bpf /sys/fs/bpf && echo ready && exec sleep infinity"


@dataclass(frozen=True, slots=True)
class Agents:
    """How the agents of a service's backends are asked.

    Attributes:
        port: of an agent, at its backend's address.
        key: the file with their key.
        interval: seconds between two questions to one of them.
    """

    port: int
    key: Path
    interval: float


@dataclass(frozen=True, slots=True)
class Served:
    """A service as the benchmark configures it.

    Attributes:
        name: of the service.
        port: at the VIP.
        backends: HOST:PORT.
        checked: the port at the backends where they are checked by TCP; None: not at all.
        scheduler: by its name in the config; None: the default.
        agents: None: the backends have none.
    """

    name: str
    port: int
    backends: Sequence[str]
    checked: int | None = None
    scheduler: str | None = None
    agents: Agents | None = None


def config_text(datapath: str, vip: str, services: Sequence[Served], established: int | None = None) -> str:
    """The text of a config file. ``established``: the limit of connections, if not the default. Where no
    service is checked nothing is probed either: what the backends get is the benchmark's and counted."""
    lines = ["[gateway]", f'datapath = "{datapath}"']
    if all(service.checked is None for service in services):
        lines += ["[gateway.probes]", "enabled = false"]
    if established is not None:
        lines += ["[gateway.limits]", f"established = {established}"]
    for service in services:
        check = 'check = "none"' if service.checked is None else f"port = {service.checked}"
        lines += [
            *("[[services]]", f'name = "{service.name}"', f'address = "{vip}:{service.port}"'),
            *([f'scheduler = "{service.scheduler}"'] if service.scheduler else []),
            *("[services.health]", check),
            *(_agents_table(service.agents) if service.agents is not None else ()),
        ]
        for backend in service.backends:
            lines += ["[[services.backends]]", f'address = "{backend}"']
    return "\n".join(lines) + "\n"


def _agents_table(agents: Agents) -> tuple[str, ...]:
    return (
        "[services.agent]",
        f"port = {agents.port}",
        f'key = "{agents.key}"',
        f"interval = {agents.interval}",
        f"timeout = {agents.interval}",
    )


class Daemon:
    """l4lb on a gateway; see ``running``."""

    def __init__(self, hosts: Hosts, holder: int | None) -> None:
        """Args:
        holder: a process whose mounts l4lb sees; None: those of everybody.
        """
        self.hosts = hosts
        self.file = hosts.directory / "l4lb.toml"
        self._holder = holder
        self._options = ("-c", str(self.file), "--socket", str(hosts.directory / "l4lb.sock"))
        self._running = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = hosts.directory / "l4lb.log"

    @property
    def pins(self) -> Path:
        """The BPF file system that it uses, as seen from here."""
        root = Path("/") if self._holder is None else Path(f"/proc/{self._holder}/root")
        return root / "sys/fs/bpf"

    def command(self, *words: str) -> tuple[str, ...]:
        """The command line of ``l4lb`` for this daemon."""
        mounts = () if self._holder is None else ("nsenter", f"--mount=/proc/{self._holder}/ns/mnt")
        return (*mounts, str(L4LB), *self._options, *words)

    def ask(self, *words: str) -> str:
        """Run a command of ``l4lb``; what it printed.

        Raises:
            BenchError: it failed.
        """
        return self.hosts.must("gateway", *self.command(*words))

    def start(self) -> None:
        """Start it; back when all backends are up.

        Raises:
            BenchError: l4lb ends, or they are not in time.
        """
        process = self.hosts.process("gateway", *self.command("run"))
        self._process, self._log = self._running.enter_context(process)
        deadline = time.monotonic() + READY
        while True:
            try:
                backends = json.loads(self.ask("backend", "list", "--json"))["backends"]
                if all(backend["state"] == "up" for backend in backends):
                    # No packet passes through the control process: it may run where there is time for it.
                    # The packet process, which it has started by now, stays where this one was.
                    stay(self._process.pid, EVERYWHERE)
                    return
            except BenchError:  # its socket is not there yet
                if self._process.poll() is not None:
                    raise BenchError(f"l4lb ended: {last_line(self._log)}") from None
            if time.monotonic() > deadline:
                raise BenchError(f"l4lb's backends do not come up; its log ends: {last_line(self._log)}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it by SIGKILL, without a chance to do anything any more."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._running.close()

    def stop(self) -> None:
        """End it, with all that it has done to the gateway.

        Raises:
            BenchError: it does not.
        """
        assert self._process is not None
        # Not by SIGTERM: that keeps what a restart needs.
        self.ask("stop")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            raise BenchError("l4lb still runs after 'l4lb stop'") from None

    def abandon(self) -> None:
        """After whatever has happened: nothing of it runs any more."""
        self._running.close()


@contextmanager
def _own_pins(hosts: Hosts) -> Iterator[int]:
    """A process on the gateway with a BPF file system of its own."""
    command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _PINS)
    with hosts.process("gateway", *command) as (process, log):
        deadline = time.monotonic() + READY
        while "ready" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"no BPF file system for the gateway: {last_line(log)}")
            time.sleep(0.02)
        yield process.pid


@contextmanager
def running(hosts: Hosts, datapath: str, text: str) -> Iterator[Daemon]:
    """l4lb with a config, ready, all backends up.

    Raises:
        BenchError: it does not come up, or takes another datapath, or does not stop.
    """
    with ExitStack() as stack:
        holder = None if datapath == "raw" else stack.enter_context(_own_pins(hosts))
        control = Daemon(hosts, holder)
        control.file.write_text(text)
        try:
            control.start()
            taken = json.loads(control.ask("status", "--json"))["datapath"]["name"]
            if taken != datapath:
                raise BenchError(f"l4lb takes the datapath {taken} where {datapath} is asked for")
            yield control
            control.stop()
        finally:
            control.abandon()
