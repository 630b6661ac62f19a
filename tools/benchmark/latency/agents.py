"""Agents on the hosts of the servers, and the CPU that they find there.

The servers take their time without using the CPU, and all hosts of the lab share that of the machine, so
no host could be busy while the others are idle. Therefore each agent has a /proc/stat of its own, put over
the kernel's as lxcfs does for containers, in which the benchmark counts the CPU's seconds. Everything
behind that file is real: what the agent makes of it, the packets, the gateway's limits.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmark.latency.pool import Pool
from benchmark.latency.scenes import BUSY
from benchmark.peers.service import Agents
from netlab.daemon import L4LB
from netlab.gateway import AGENT_PORT, KEY, write_key

MEASURED: Final = 0.1
"""Seconds between two looks of an agent at its CPU, of which it averages some three."""

ASKED: Final = 0.5
"""Seconds between two questions to it."""

_STEP: Final = 0.05  # seconds between two entries in a /proc/stat
_TICKS: Final = 100  # a second and CPU (USER_HZ)
_CPUS: Final = 4
_MOUNTED: Final = 'mount --bind "$0" /proc/stat && exec "$@"'


class _Host:
    """The /proc/stat of a host that is idle, and busy from some moment on."""

    def __init__(self, file: Path, began: float) -> None:
        self.file = file
        self.busy_from = float("inf")
        self._began = began
        self.write(began)

    def write(self, now: float) -> None:
        """Bring it up to date, in place: it is mounted."""
        line = stat_line(now - self._began, now - self.busy_from)
        with self.file.open("r+b" if self.file.exists() else "wb", buffering=0) as file:
            file.write(line)


def stat_line(up: float, busy: float) -> bytes:
    """The line of all CPUs (proc_stat(5)), always of the same length, so that nobody reads half of it.

    Args:
        up: seconds since the host has started; it was idle until it was busy.
        busy: seconds since then; less than 0: it is not busy yet.
    """
    user = BUSY * max(0.0, busy)
    counted = (round(seconds * _CPUS * _TICKS) for seconds in (user, 0.0, 0.0, up - user))
    return ("cpu " + "".join(f" {ticks:12}" for ticks in counted) + 6 * " 0" + "\n").encode()


class Hosts:
    """The CPUs of all hosts; a thread lets them go on."""

    def __init__(self, hosts: Sequence[_Host]) -> None:
        self._hosts = hosts
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def make_busy(self, number: int, when: float) -> None:
        """One of them is busy from ``when`` of the monotonic clock on."""
        self._hosts[number].busy_from = when

    def __enter__(self) -> Hosts:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._ended.wait(_STEP):
            now = time.monotonic()
            for host in self._hosts:
                host.write(now)


@contextmanager
def open_agents(pool: Pool) -> Iterator[tuple[Agents, Hosts]]:
    """An agent for each server, ready; they end with the block.

    Raises:
        BenchError: one does not start.
    """
    directory = pool.site.directory
    key = directory / KEY
    write_key(key)
    now = time.monotonic()
    hosts = [_Host(directory / f"{server.name}.stat", now) for server in pool.servers]
    with ExitStack() as stack:
        agents = [
            stack.enter_context(_agent(pool, number, host.file, key)) for number, host in enumerate(hosts)
        ]
        for server, (process, log) in zip(pool.servers, agents, strict=True):
            where = f"src {server.address}:{AGENT_PORT}"
            pool.site.wait_listening(server.host, where, f"the agent of {server.name}", process, log)
        yield Agents(AGENT_PORT, key, ASKED), stack.enter_context(Hosts(hosts))


def _agent(
    pool: Pool, number: int, stat: Path, key: Path
) -> AbstractContextManager[tuple[subprocess.Popen[bytes], Path]]:
    """The process and its log."""
    server = pool.servers[number]
    at = f"{server.address}:{AGENT_PORT}"
    options = ("--listen", at, "--tcp", at, "--key", str(key), "--interval", str(MEASURED))
    command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNTED, str(stat), str(L4LB))
    return pool.site.process(server.host, *command, "agent", *options, name=f"agent-{server.name}")
