"""The lab of virtual machines that Vagrant has brought up, to be checked: commands by ssh."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from netlab import LabError
from netlab.command import find
from netlab.topology import FILE, load

ROOT: Final = FILE.parent.parent
_BOOT: Final = 900.0  # seconds, on emulated machines
_OPTIONS: Final = (
    # A handshake takes seconds on an emulated machine: one connection for all commands.
    *("-o", "ControlMaster=auto", "-o", "ControlPersist=30"),
    *("-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR"),
    # One may not answer for a minute, while its kernel checks programs for example.
    *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=18"),
)


class Machines:
    """The virtual machines, up and provisioned. Use ``machines``."""

    patience = 180.0
    l4lb: tuple[str, ...] = ("l4lb",)

    def __init__(self, directory: Path) -> None:
        self.topology = load()
        self._directory = directory

    def command(self, host: str, *argv: str) -> list[str]:
        """The command line that runs another on a machine, as root."""
        return [*self._ssh(), host, f"sudo -n {shlex.join(argv)}"]

    def start(self, backend: str) -> None:
        """Start a backend's servers."""
        self.guest(backend, "start")

    def stop(self, backend: str) -> None:
        """End them."""
        self.guest(backend, "stop")

    def guest(self, host: str, what: str) -> None:
        """Let ``guest`` do something there."""
        self.must(
            host, "env", "PYTHONPATH=/opt/l4lb-lab/tools", "python3", "-m", "netlab.guest", host, what
        )

    def must(self, host: str, *argv: str, stdin: IO[bytes] | int = subprocess.DEVNULL) -> str:
        """What a command prints, given this on its standard input.

        Raises:
            LabError: it did not exit with 0.
        """
        done = subprocess.run(
            self.command(host, *argv), stdin=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"ended with status {done.returncode}, without a word"
            raise LabError(f"'{shlex.join(argv)}' on {host}: {said}")
        return done.stdout

    def reboot(self, host: str) -> bool:
        """Restart a machine, and wait until it can be reached."""
        boot = ("cat", "/proc/sys/kernel/random/boot_id")
        before = self.must(host, *boot)
        subprocess.run(self.command(host, "systemctl", "reboot"), capture_output=True, check=False)
        subprocess.run([*self._ssh(), "-O", "exit", host], capture_output=True, check=False)
        deadline = time.monotonic() + _BOOT
        while time.monotonic() < deadline:
            done = subprocess.run(
                self.command(host, *boot),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 and done.stdout != before:
                return True
            time.sleep(1)
        raise LabError(f"{host} cannot be reached {_BOOT:g} s after its reboot")

    def close(self) -> None:
        """Give the connections up."""
        for host in self.topology.hosts:
            subprocess.run([*self._ssh(), "-O", "exit", host], capture_output=True, check=False)

    def _ssh(self) -> list[str]:
        return [
            find("ssh"), "-F", str(self._directory / "config"), *_OPTIONS,
            "-o", f"ControlPath={self._directory}/%n",
        ]  # fmt: skip


@contextmanager
def machines(environment: Mapping[str, str] | None = None) -> Iterator[Machines]:
    """The machines that ``vagrant up`` has made.

    Args:
        environment: of Vagrant; None: the caller's.

    Raises:
        LabError: they are not up.
    """
    done = subprocess.run(
        [find("vagrant", "tools/setup --vm"), "ssh-config"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise LabError(f"the machines are not up, 'vagrant up' brings them up ({said})")
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config").write_text(done.stdout)
        hosts = Machines(Path(directory))
        try:
            yield hosts
        finally:
            hosts.close()
