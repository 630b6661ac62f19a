"""One lab: bring it up, ask how it is, run commands on its hosts, take it down."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netlab import LabError, network, process, servers
from netlab.command import find, inside
from netlab.record import HOME, Record, alone, locked
from netlab.topology import Host, load

DEFAULT_PREFIX: Final = "l4lb"
DEFAULT_BIG: Final = 8 << 20  # bytes
_PROGRAMS: Final = ("ip", "nsenter", "sysctl", "nginx")
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What ``tools/lab status`` shows of a host."""

    host: Host
    namespace: str
    up: bool
    servers: dict[str, int | None]  # name -> process number, None: not running
    healthy: bool


class Lab:
    """The lab whose namespaces begin with ``prefix``.

    Labs of different prefixes are out of each other's way; one of them can be used by several
    processes.
    """

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", prefix):
            raise LabError(f"'{prefix}' cannot be a prefix: write a-z, 0-9 and '-', at most 20 of them")
        self.prefix = prefix
        self.topology = load()
        self.directory = HOME / prefix
        self.www = self.directory / "www"

    def namespace(self, host: str) -> str:
        """The name of a host's network namespace.

        Raises:
            LabError: the topology has no such host.
        """
        if host not in self.topology.hosts:
            raise LabError(f"no host '{host}' in the lab: there are {', '.join(self.topology.hosts)}")
        return f"{self.prefix}-{host}"

    def host_directory(self, host: str) -> Path:
        """Where a host has files of its own, until the lab goes down."""
        return self.directory / host

    def up(self, big: int = DEFAULT_BIG, *, switched: bool = True) -> None:
        """Make the lab, or mend it: what runs and is whole stays.

        Args:
            big: size of the file /big on the backends, in bytes.
            switched: whether networks are switches or cables (``network.make``), if it is made.

        Raises:
            LabError: nothing of this call is left behind.
        """
        _require_root()
        for program in _PROGRAMS:
            find(program)
        with locked(), _readable_by_servers():
            record = self._record()
            if record.complete and all(record.owned(name) for name in record.namespaces):
                self.publish("big", big)
                for host in self.topology.backends:
                    self._start(host.name)
                return
            self._remove(record)
            try:
                self._make(record, big, switched=switched)
            except BaseException:
                self._remove(record)
                raise

    def down(self) -> None:
        """Remove everything that ``up`` made, also when it was not finished, and end what runs on
        the hosts."""
        _require_root()
        with locked():
            self._remove(self._record())

    def command(self, host: str, *argv: str) -> list[str]:
        """The command line that runs ``argv`` on a host.

        Raises:
            LabError: no such host, or the lab is not up.
        """
        namespace = self.namespace(host)
        _require_root()
        if self._record().owned(namespace) is None:
            raise LabError(f"the lab '{self.prefix}' is not up: run tools/lab{self._option()} up")
        return inside(namespace, *argv)

    def start(self, backend: str) -> None:
        """Start the servers of a backend that are not running."""
        self._require_backend(backend)
        self.command(backend)
        with locked():
            self._start(backend)

    def stop(self, backend: str) -> None:
        """End the servers of a backend; its host stays up."""
        self._require_backend(backend)
        self.command(backend)
        with locked():
            inode = self._record().owned(self.namespace(backend))
            if inode is not None:
                process.end([pid for pid in self._servers(backend).values() if pid], inode)

    def publish(self, name: str, size: int) -> str:
        """Put a file of ``size`` bytes on all backends, as /NAME; returns its SHA-256.

        The content is the same each time, and no MiB of it is like another: what arrives out of
        order or twice has another sum.
        """
        block = bytearray(random.Random(0).randbytes(_MEBIBYTE))
        digest = hashlib.sha256()
        fresh = self.www / f".{name}.new"
        with fresh.open("wb") as file:
            for index in range(0, size, _MEBIBYTE):
                block[:8] = index.to_bytes(8, "big")
                piece = block[: size - index]
                digest.update(piece)
                file.write(piece)
        fresh.replace(self.www / name)
        return digest.hexdigest()

    def status(self) -> list[HostStatus]:
        """How each host is.

        Raises:
            LabError: the caller is not root, who alone sees which processes are a host's.
        """
        _require_root()
        record = self._record()
        return [
            HostStatus(
                host=host,
                namespace=self.namespace(host.name),
                up=record.owned(self.namespace(host.name)) is not None,
                servers=self._servers(host.name) if host.role == "backend" else {},
                healthy=not (self.host_directory(host.name) / "unhealthy").exists(),
            )
            for host in self.topology.hosts.values()
        ]

    def _option(self) -> str:
        return "" if self.prefix == DEFAULT_PREFIX else f" --prefix {self.prefix}"

    def _record(self) -> Record:
        return Record.load(self.directory / "record.json")

    def _require_backend(self, host: str) -> None:
        self.namespace(host)
        if self.topology.hosts[host].role != "backend":
            raise LabError(f"{host} has no servers: it is a {self.topology.hosts[host].role}")

    def _make(self, record: Record, big: int, *, switched: bool) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.www.mkdir(exist_ok=True)
        record.save()
        network.make(self.prefix, self.topology, record, switched=switched)
        self.publish("big", big)
        for host in self.topology.backends:
            servers.prepare(host.name, self.host_directory(host.name), self.www)
            self._start(host.name)
        record.complete = True
        record.save()

    def _servers(self, backend: str) -> dict[str, int | None]:
        namespace, directory = self.namespace(backend), self.host_directory(backend)
        return {server: servers.running(namespace, server, directory) for server in servers.SERVERS}

    def _start(self, backend: str) -> None:
        for server, pid in self._servers(backend).items():
            if pid is None:
                servers.start(self.namespace(backend), server, backend, self.host_directory(backend))

    def _remove(self, record: Record) -> None:
        network.remove(record)
        if self.directory.exists():
            shutil.rmtree(self.directory)
        if HOME.is_dir() and not any(HOME.iterdir()):
            HOME.rmdir()
        record.complete = False


def prefixes() -> list[str]:
    """The prefixes of all labs that are up, or half up, on this machine."""
    return sorted(directory.name for directory in HOME.iterdir()) if HOME.is_dir() else []


@contextmanager
def own(prefix: str) -> Iterator[Lab]:
    """The lab of this prefix for one program alone, down before and after.

    Raises:
        LabError: another one is at work on it, or the caller is not root.
    """
    lab = Lab(prefix)
    with alone(prefix):
        lab.down()  # of one that was killed, with a daemon that may be of other code
        try:
            yield lab
        finally:
            lab.down()


@contextmanager
def _readable_by_servers() -> Iterator[None]:
    """nginx is not root: no strict umask of the caller's on what it serves."""
    strict = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(strict)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab is made of network namespaces: run it as root")
