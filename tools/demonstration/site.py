"""The lab of the demo with l4lb on its gateway, and commands that are shown while they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from demonstration.stage import Stage, StepFailed
from netlab.daemon import Daemon
from netlab.lab import Lab

TOOLS: Final = Path(__file__).resolve().parent.parent
_CONFIG: Final = Path(__file__).with_name("l4lb.toml")
_PATIENCE: Final = 20.0  # seconds
_LONGEST: Final = 60  # seconds that a command may take


class Site:
    """Where the demo takes place."""

    def __init__(self, stage: Stage, prefix: str, datapath: str) -> None:
        self.stage = stage
        self._datapath = datapath
        self.lab = Lab(prefix)
        self.directory = self.lab.host_directory("gateway")
        self.daemon = Daemon(partial(self.lab.command, "gateway"), self.directory, own_session=True)
        self._environment = {
            **os.environ,
            "L4LB_CONFIG": str(self.daemon.config),
            "L4LB_SOCKET": str(self.daemon.socket),
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        }

    # -- commands ------------------------------------------------------------------------------

    def argv(self, host: str, text: str) -> list[str]:
        """What runs a shell command on a host."""
        return self.lab.command(host, "sh", "-c", text)

    def run(self, host: str, text: str, *, quiet: bool = False) -> str:
        """Show a command, run it on a host, show what it prints unless ``quiet``.

        Returns:
            What it printed, without the last newline.

        Raises:
            StepFailed: it did not exit with 0, or not in a minute.
        """
        self.stage.command(host, text)
        return self._finish(text, self.argv(host, text), quiet)

    def tool(self, text: str) -> None:
        """Show and run ``tools/lab`` with these words."""
        self.stage.command("", f"tools/lab --prefix {self.lab.prefix} {text}")
        argv = [sys.executable, str(TOOLS / "lab"), "--prefix", self.lab.prefix, *text.split()]
        self._finish(f"tools/lab {text}", argv)

    def _finish(self, text: str, argv: list[str], quiet: bool = False) -> str:
        try:
            done = subprocess.run(
                argv, env=self._environment, capture_output=True, text=True, check=False, timeout=_LONGEST
            )
        except subprocess.TimeoutExpired:
            raise StepFailed(f"'{text}' has not ended after {_LONGEST} s") from None
        self.stage.output(done.stderr if quiet else done.stdout + done.stderr)
        if done.returncode:
            raise StepFailed(f"'{text}' has exit status {done.returncode}")
        return done.stdout.rstrip("\n")

    @contextmanager
    def background(self, host: str, text: str) -> Iterator[subprocess.Popen[bytes]]:
        """Show a command and run it beside what follows."""
        self.stage.command(host, f"{text} &")
        with subprocess.Popen(self.argv(host, text), env=self._environment) as process:
            try:
                yield process
            finally:
                process.kill()

    # -- l4lb ----------------------------------------------------------------------------------

    def configure(self) -> None:
        """Put the config where the daemon will find it."""
        text = _CONFIG.read_text()
        if self._datapath != "auto":
            text = text.replace(
                "[[services]]", f'[gateway]\ndatapath = "{self._datapath}"\n\n[[services]]', 1
            )
        self.daemon.configure(text)

    def start(self) -> None:
        """Start the daemon, and wait until it is ready.

        Raises:
            LabError: it ended, or is not ready after some time.
        """
        self.stage.command("gateway", "l4lb run &")
        self.daemon.start()

    def terminate(self) -> None:
        """SIGTERM, as a service manager stops a service.

        Raises:
            LabError: it does not end.
            StepFailed: it ends with a failure.
        """
        self.stage.command("gateway", f"kill -TERM {self.daemon.pid}")
        self._ended(self.daemon.stop())

    def await_daemon(self) -> None:
        """Wait until the daemon has ended.

        Raises:
            LabError: it does not.
            StepFailed: it ends with a failure.
        """
        self._ended(self.daemon.wait())

    @staticmethod
    def _ended(status: int) -> None:
        if status:
            raise StepFailed(f"l4lb run ended with exit status {status}")

    def ask(self, *words: str) -> Any:
        """What ``l4lb ... --json`` answers; not shown.

        Raises:
            LabError: it did not exit with 0.
        """
        return json.loads(self.daemon.ask(*words, "--json"))

    def backend(self, address: str) -> dict[str, Any]:
        """One backend of the service web, as ``l4lb backend list --json`` has it."""
        backends = self.ask("backend", "list", "web")["backends"]
        found: dict[str, Any] = next(backend for backend in backends if backend["address"] == address)
        return found

    # -- the lab -------------------------------------------------------------------------------

    def name_of(self, address: str) -> str:
        """The host behind ``ADDRESS:PORT``."""
        hosts = {f"{host.address(4)}:80": host.name for host in self.lab.topology.backends}
        return hosts[address]

    @staticmethod
    def wait(what: str, condition: Callable[[], object], seconds: float = _PATIENCE) -> None:
        """Ask again and again until the answer is true.

        Raises:
            StepFailed: it has not become true.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise StepFailed(f"waited {seconds:g} s for {what}")
            time.sleep(0.02)

    def close(self) -> None:
        """Take the lab down, with everything that runs on it."""
        try:
            self.daemon.close()
        finally:
            self.lab.down()  # also the end of what it has pinned
