"""The lab of namespaces with l4lb on its gateway and agents on its backends, while it is checked."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from netlab import LabError, gateway
from netlab.lab import Lab
from netlab.record import alone
from netlab.topology import FILE

_L4LB: Final = FILE.parent.parent / ".venv" / "bin" / "l4lb"


class Namespaces:
    """A lab of namespaces, to be checked."""

    patience = 30.0

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.topology = lab.topology
        self.directory = lab.host_directory("gateway")
        self.l4lb: tuple[str, ...] = (
            str(_L4LB),
            "--config",
            str(self.directory / "l4lb.toml"),
            "--socket",
            str(self.directory / "l4lb.sock"),
        )
        self.log = self.directory / "l4lb.log"

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
        """Start l4lb on the gateway and agents on the backends; the lab's end is theirs."""
        self.directory.mkdir(exist_ok=True)
        key = self.directory / gateway.KEY
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32) + "\n")
        (self.directory / "l4lb.toml").write_text(gateway.config(self.topology, key))
        with self.log.open("ab") as log:
            for host in self.topology.backends:
                listen = f"{host.address(4)}:{gateway.AGENT_PORT}"
                self._spawn(host.name, log, str(_L4LB), "agent", "--listen", listen, "--key", str(key))
            self._spawn("gateway", log, *self.l4lb, "run")

    def _spawn(self, host: str, log: IO[bytes], *argv: str) -> None:
        subprocess.Popen(
            self.command(host, *argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C is the check's
        )

    def last_words(self) -> str:
        """The end of what l4lb and the agents have logged."""
        return (
            "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log.exists() else ""
        )


@contextmanager
def namespaces(prefix: str) -> Iterator[Namespaces]:
    """A lab of its own that serves, from bringing it up to taking it down.

    After a failure the end of the log is on standard error, as the lab's end removes the log.

    Raises:
        LabError: it cannot be.
    """
    if not Path(_L4LB).exists():
        raise LabError("there is no .venv with l4lb in it: run tools/setup")
    lab = Lab(prefix)
    with alone(prefix):
        lab.down()  # of one that was killed, with a daemon that may be of other code
        hosts = Namespaces(lab)
        try:
            lab.up()
            hosts.serve()
            yield hosts
        except LabError:
            if words := hosts.last_words():
                print(words, file=sys.stderr)
            raise
        finally:
            lab.down()
