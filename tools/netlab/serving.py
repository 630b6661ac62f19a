"""The lab of namespaces with l4lb on its gateway and agents on its backends, while it is checked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO

from netlab import LabError, gateway
from netlab.daemon import L4LB, Daemon
from netlab.lab import Lab, own
from netlab.topology import Host


class Namespaces:
    """A lab of namespaces, to be checked."""

    patience = 30.0

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.topology = lab.topology
        directory = lab.host_directory("gateway")
        self._key = directory / gateway.KEY
        self._daemon = Daemon(partial(lab.command, "gateway"), directory, own_session=True)
        self.l4lb = self._daemon.program

    def command(self, host: str, *argv: str) -> list[str]:
        """The command line that runs another on a host."""
        return self.lab.command(host, *argv)

    def start(self, backend: str) -> None:
        """Start a backend's servers."""
        self.lab.start(backend)

    def stop(self, backend: str) -> None:
        """End them."""
        self.lab.stop(backend)

    def reboot(self, host: str) -> bool:
        """Namespaces do not boot."""
        return False

    def serve(self) -> None:
        """Start l4lb on the gateway and agents on the backends; the lab's end is theirs.

        Raises:
            LabError: l4lb does not start.
        """
        self._daemon.configure(gateway.config(self.topology, self._key))
        gateway.write_key(self._key)
        with self._daemon.log.open("ab") as log:
            for host in self.topology.backends:
                self._start_agent(host, log)
        self._daemon.start()

    def _start_agent(self, host: Host, log: IO[bytes]) -> None:
        listen = ("--listen", f"{host.address(4)}:{gateway.AGENT_PORT}")
        subprocess.Popen(
            self.command(host.name, str(L4LB), "agent", *listen, "--key", str(self._key)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C is the check's
        )

    def last_words(self) -> str:
        """The end of what l4lb and the agents have logged."""
        return self._daemon.last_words(15)


@contextmanager
def namespaces(prefix: str) -> Iterator[Namespaces]:
    """A lab of its own that serves, from bringing it up to taking it down.

    After a failure the end of the log is on standard error, as the lab's end removes the log.

    Raises:
        LabError: it cannot be.
    """
    if not L4LB.exists():
        raise LabError("there is no .venv with l4lb in it: run tools/setup")
    with own(prefix) as lab:
        hosts = Namespaces(lab)
        try:
            lab.up()
            hosts.serve()
            yield hosts
        except LabError:
            if words := hosts.last_words():
                print(words, file=sys.stderr)
            raise
