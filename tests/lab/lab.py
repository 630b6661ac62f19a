"""The lab as tests use it: commands on its hosts, and l4lb's daemon on its gateway."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from l4lb.cli.client import Client
from netlab import LabError, daemon
from netlab import lab as netlab
from netlab.record import lock_of

_PREFIX: Final = "l4test-"


def prefix_of_this_run(which: str = "") -> str:
    """Of a lab of this process's own, by which the next run knows whose it was.

    Args:
        which: tells several apart: no digits, and short, as a prefix has to be.
    """
    return f"{_PREFIX}{os.getpid()}{which}"


class Lab(netlab.Lab):
    """A lab of this process's own; several can be up beside each other.

    Attributes:
        datapath: what its daemons run on; "auto": what their configs say.
    """

    def __init__(self, which: str = "", datapath: str = "auto") -> None:
        super().__init__(prefix_of_this_run(which))
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


class Daemon(daemon.Daemon):
    """``l4lb run`` on a host of the lab. It can be stopped and started again with what it kept."""

    def __init__(self, lab: Lab, host: str, config: str) -> None:
        super().__init__(partial(lab.command, host), lab.host_directory(host))
        self.lab = lab
        self.host = host
        self.configure(config)
        self.log.unlink(missing_ok=True)

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
            self.finish()  # nothing is kept for the next one, also by one that was killed
        except BaseException:
            self._show_log()
            raise

    def configure(self, text: str) -> None:
        """Write its configuration file: this text, on the lab's datapath. It is not told."""
        super().configure(self.lab.config(text))

    def start(self, timeout: float = daemon.READY) -> None:
        """Start it, and wait until it says that it is ready.

        Raises:
            AssertionError: it ended, or was not ready after ``timeout`` seconds; says its last words.
        """
        try:
            super().start(timeout)
        except LabError as error:
            raise AssertionError(f"{error}\n{self.last_words(50)}") from None

    def start_and_stop(self, after: float) -> int:
        """Start it, and SIGTERM so many seconds later, ready or not; its exit status."""
        self.launch()
        time.sleep(after)
        return self.stop()

    def _show_log(self) -> None:
        """pytest shows it with the failure."""
        print(f"--- l4lb's log on {self.host}\n{self.last_words(50)}", file=sys.stderr)

    def cli(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``l4lb`` with this daemon's socket and configuration file."""
        return self.lab.exec(self.host, *self.program, *argv, check=check)

    @property
    def api(self) -> Client:
        """The daemon's API: the same as ``cli`` with --json, in less time."""
        return Client(self.socket)


def remove(prefix: str) -> None:
    """Take a lab down that is nobody's any more; it need not be up."""
    try:
        netlab.Lab(prefix).down()
    finally:
        lock_of(prefix).unlink(missing_ok=True)


def remove_abandoned() -> None:
    """Take down the labs of test runs that were killed."""
    for prefix in netlab.prefixes():
        if is_abandoned(prefix):
            remove(prefix)


def is_abandoned(prefix: str) -> bool:
    """Whether it is of a test run that is there no more, be it of a tool that the run has started."""
    run = re.fullmatch(rf"{_PREFIX}(\d+)\D*", prefix)
    return run is not None and not Path(f"/proc/{run[1]}").exists()
