"""The lab of the demo with l4lb on its gateway, and commands that are shown while they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from demonstration.stage import Stage, StepFailed
from netlab import LabError
from netlab.command import NAMESPACES
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
        self.config = self.directory / "l4lb.toml"
        self.socket = self.directory / "l4lb.sock"
        self.log = self.directory / "l4lb.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "L4LB_CONFIG": str(self.config),
            "L4LB_SOCKET": str(self.socket),
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
        self.directory.mkdir(exist_ok=True)
        text = _CONFIG.read_text()
        if self._datapath != "auto":
            text = text.replace(
                "[[services]]", f'[gateway]\ndatapath = "{self._datapath}"\n\n[[services]]', 1
            )
        self.config.write_text(text)

    def start(self) -> None:
        """Start the daemon, and wait until it is ready.

        Raises:
            StepFailed: it ended, or is not ready after some time.
        """
        self.stage.command("gateway", "l4lb run &")
        with self.log.open("ab") as log:
            at = log.tell()
            self._daemon = subprocess.Popen(
                self.lab.command("gateway", "l4lb", "run"),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is the demo's
            )
        self.wait("l4lb to be ready", lambda: self._daemon_ended() or b" ready: " in self._logged(at))
        if self._daemon_ended():
            raise StepFailed(f"l4lb run ended with exit status {self._daemon.returncode}")

    def _daemon_ended(self) -> bool:
        return self._daemon is None or self._daemon.poll() is not None

    def _logged(self, at: int) -> bytes:
        with self.log.open("rb") as log:
            log.seek(at)
            return log.read()

    def terminate(self) -> None:
        """SIGTERM, as a service manager stops a service.

        Raises:
            StepFailed: it does not end, or with a failure.
        """
        assert self._daemon is not None
        self.stage.command("gateway", f"kill -TERM {self._daemon.pid}")
        self._daemon.terminate()
        self.await_daemon()

    def await_daemon(self) -> None:
        """Wait until the daemon has ended.

        Raises:
            StepFailed: it does not end, or with a failure.
        """
        assert self._daemon is not None
        try:
            status = self._daemon.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise StepFailed("l4lb does not stop") from None
        if status:
            raise StepFailed(f"l4lb run ended with exit status {status}")
        self._daemon = None

    def last_words(self, lines: int = 25) -> str:
        """The end of the daemon's log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def ask(self, *words: str) -> Any:
        """What ``l4lb ... --json`` answers; not shown.

        Raises:
            StepFailed: it did not exit with 0.
        """
        done = subprocess.run(
            ["l4lb", *words, "--json"], env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StepFailed(f"'l4lb {' '.join(words)}': {done.stderr.strip()}")
        return json.loads(done.stdout)

    def backend(self, address: str) -> dict[str, Any]:
        """One backend of the service web, as ``l4lb backend list --json`` has it."""
        backends = self.ask("backend", "list", "web")["backends"]
        found: dict[str, Any] = next(backend for backend in backends if backend["address"] == address)
        return found

    # -- the lab -------------------------------------------------------------------------------

    def namespace(self, host: str) -> Path:
        """The network namespace of a host."""
        return NAMESPACES / self.lab.namespace(host)

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
            if self._daemon is not None:
                stop = self.lab.command("gateway", "l4lb", "stop")
                subprocess.run(
                    stop, env=self._environment, capture_output=True, check=False, timeout=_PATIENCE
                )
        except (subprocess.TimeoutExpired, LabError):
            pass  # then not in peace: the lab's end is the daemon's, and that of what it has pinned
        finally:
            self.lab.down()
        if self._daemon is not None:
            self._daemon.wait()
