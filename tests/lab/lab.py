"""The lab as tests use it: commands on its hosts, and l4lb's daemon on its gateway."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from l4lb.cli.client import Client
from netlab import lab as netlab

L4LB: Final = Path(sys.executable).with_name("l4lb")
_PREFIX: Final = "l4lb-test-"


class Lab(netlab.Lab):
    """A lab of this process's own; several can be up beside each other.

    Attributes:
        datapath: what its daemons run on; "auto": what their configs say.
    """

    def __init__(self, number: int | None = None, datapath: str = "auto") -> None:
        super().__init__(f"{_PREFIX}{number or os.getpid()}")
        self.datapath = datapath

    def exec(
        self, host: str, *argv: str | Path, timeout: float = 20.0, check: bool = True, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, with ``text`` on its standard input, for at most ``timeout`` seconds.

        Raises:
            AssertionError: ``check``, and it did not exit with 0; says what it printed.
        """
        command = self.command(host, *map(str, argv))
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def popen(self, host: str, *argv: str | Path) -> subprocess.Popen[str]:
        """Start a command on a host; use it in a ``with``. What still runs at the end, ``down`` ends."""
        return subprocess.Popen(
            self.command(host, *map(str, argv)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def curl(self, url: str, *options: str) -> str:
        """What the client gets from ``url``, at most 5 s after asking unless the options say other."""
        return self.exec("client", "curl", "-sS", "--fail", "-g", "--max-time", "5", *options, url).stdout

    def daemon(self, config: str, host: str = "gateway") -> Daemon:
        """l4lb's daemon with this configuration, on the lab's datapath, to be used in a ``with``."""
        return Daemon(self, host, config)

    def config(self, text: str) -> str:
        """This configuration on the lab's datapath."""
        if self.datapath == "auto":
            return text
        line = f'[gateway]\ndatapath = "{self.datapath}"\n'
        return text.replace("[gateway]\n", line, 1) if "[gateway]\n" in text else f"{line}\n{text}"


class Daemon:
    """``l4lb run`` on a host of the lab. It can be stopped and started again with what it kept."""

    def __init__(self, lab: Lab, host: str, config: str) -> None:
        directory = lab.host_directory(host)
        directory.mkdir(exist_ok=True)
        self.lab = lab
        self.host = host
        self.config = directory / "l4lb.toml"
        self.socket = directory / "l4lb.sock"
        self.log = directory / "l4lb.log"
        self.configure(config)
        self.log.unlink(missing_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._show_log()
        try:
            self._end()
        except BaseException:
            self._show_log()
            raise

    def _end(self) -> None:
        """Nothing is kept for the next one, also by one that was killed."""
        try:
            self.cli("stop")
            if self._process is not None:
                status = self._process.wait(15)
                assert status == 0, f"l4lb run ended with exit status {status}"
        finally:
            if self._process is not None:
                self.stop()

    def configure(self, config: str) -> None:
        """Write its configuration file: this text, on the lab's datapath. It is not told."""
        self.config.write_text(self.lab.config(config))

    @property
    def pid(self) -> int:
        """The daemon's process number."""
        assert self._process is not None, "the daemon is not running"
        return self._process.pid

    def start(self, timeout: float = 20.0) -> None:
        """Start it, and wait until it says that it is ready (sd_notify(3)).

        Raises:
            AssertionError: it ended, or was not ready after ``timeout`` seconds; says its last words.
        """
        assert self._process is None, "the daemon is running already"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, self.log.open("ab") as log:
            # A file: abstract names are out of reach from another network namespace.
            notify = self.log.with_name("notify.sock")
            notify.unlink(missing_ok=True)
            manager.bind(str(notify))
            self._process = self._launch(log, NOTIFY_SOCKET=str(notify))
            if not self._ready(manager, time.monotonic() + timeout):
                self._process.kill()
                self._process.wait()
                self._process = None
                raise AssertionError("l4lb run does not get ready:\n" + self._last_words())

    def start_and_stop(self, after: float) -> int:
        """Start it, and SIGTERM so many seconds later, ready or not; its exit status."""
        with self.log.open("ab") as log:
            self._process = self._launch(log)
        time.sleep(after)
        return self.stop()

    def _launch(self, log: IO[bytes], **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command("run"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
        )

    def _show_log(self) -> None:
        """pytest shows it with the failure."""
        print(f"--- l4lb's log on {self.host}\n{self._last_words()}", file=sys.stderr)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def _ready(self, manager: socket.socket, deadline: float) -> bool:
        ended, said = os.pidfd_open(self.pid), manager.fileno()
        try:
            while (left := deadline - time.monotonic()) > 0:
                readable = select.select([said, ended], [], [], left)[0]
                if said in readable and b"READY=1" in manager.recv(4096).split(b"\n"):
                    return True
                if readable == [ended]:
                    return False
            return False
        finally:
            os.close(ended)

    def stop(self, timeout: float = 15.0) -> int:
        """SIGTERM, and wait until it is gone; its exit status.

        Raises:
            AssertionError: it was still there after ``timeout`` seconds, and was killed.
        """
        assert self._process is not None, "the daemon is not running"
        process, self._process = self._process, None
        process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"l4lb run ignores SIGTERM:\n{self._last_words()}") from None

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        assert self._process is not None, "the daemon is not running"
        process, self._process = self._process, None
        process.kill()
        process.wait()

    def reload(self) -> None:
        """SIGHUP; returns at once."""
        os.kill(self.pid, signal.SIGHUP)

    def cli(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``l4lb`` with this daemon's socket and configuration file."""
        return self.lab.exec(
            self.host, L4LB, "-c", self.config, "--socket", self.socket, *argv, check=check
        )

    @property
    def api(self) -> Client:
        """The daemon's API: the same as ``cli`` with --json, in less time."""
        return Client(self.socket)

    def _command(self, *argv: str) -> list[str]:
        return self.lab.command(
            self.host, str(L4LB), "-c", str(self.config), "--socket", str(self.socket), *argv
        )


def remove_abandoned() -> None:
    """Take down the labs of test runs that were killed."""
    for prefix in netlab.prefixes():
        number = re.fullmatch(rf"{_PREFIX}(\d+)", prefix)
        if number and not Path(f"/proc/{number[1]}").exists():
            Lab(int(number[1])).down()
