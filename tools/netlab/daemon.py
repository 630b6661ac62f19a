"""``l4lb run`` on a host of a lab, asked as a user would: the one way for the tools and the tests."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from netlab import LabError, pins
from netlab.command import run
from netlab.topology import FILE

_VENV: Final = FILE.parent.parent / ".venv"


def installed() -> Path:
    """The l4lb of the virtual environment that this runs in; where there is none in that, of .venv."""
    own = Path(sys.prefix) / "bin" / "l4lb"
    return own if sys.prefix != sys.base_prefix and own.exists() else _VENV / "bin" / "l4lb"


L4LB: Final = installed()

KERNEL_DATAPATHS: Final = ("tc", "xdp")
DATAPATHS: Final = ("raw", *KERNEL_DATAPATHS)

READY: Final = 20.0  # seconds for it to start, and for its backends to be found up
_ENDED: Final = 15.0  # seconds for it to end
_ANSWER: Final = 5.0  # seconds for an answer, at least: cut off, it would not say what is amiss
_LOOK: Final = 0.1  # seconds between two looks at its backends


class Daemon:
    """l4lb on a host. It can be ended and started again with what it kept.

    Attributes:
        config, socket, log: its files; the log goes on from one start to the next.
    """

    def __init__(
        self,
        command: Callable[..., list[str]],
        directory: Path,
        *,
        holder: int | None = None,
        own_session: bool = False,
    ) -> None:
        """Args:
        command: the command line that runs another on its host, ``command(*argv)``.
        directory: for its files.
        holder: a process whose mounts it sees (``pins.own``); None: those of everybody.
        own_session: a Ctrl-C on the terminal is for who has started it, not for it.
        """
        self.config = directory / "l4lb.toml"
        self.socket = directory / "l4lb.sock"
        self.log = directory / "l4lb.log"
        self._command = command
        self._holder = holder
        self._own_session = own_session
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def program(self) -> tuple[str, ...]:
        """How ``l4lb`` is called on the host to be about this daemon."""
        words = str(L4LB), "--config", str(self.config), "--socket", str(self.socket)
        if self._holder is None:
            return words
        holder = f"/proc/{self._holder}"
        # Its root as well: in a chroot that is not the one of the mounts.
        return "nsenter", f"--mount={holder}/ns/mnt", f"--root={holder}/root", f"--wd={holder}/cwd", *words

    @property
    def pins(self) -> Path:
        """The BPF file system that it uses, as seen from here."""
        root = Path("/") if self._holder is None else Path(f"/proc/{self._holder}/root")
        return root / "sys/fs/bpf"

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._started.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and nobody has seen its end."""
        return self._process is not None

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the daemon is not running"
        return self._process

    def configure(self, text: str) -> None:
        """Write its config. It is not told.

        Raises:
            LabError: the lab is not up, whose directories would be in the way of its making.
        """
        try:
            self.config.parent.mkdir(exist_ok=True)
        except FileNotFoundError:
            raise LabError(f"there is no {self.config.parent.parent}: the lab is not up") from None
        self.config.write_text(text)

    def ask(self, *words: str, timeout: float | None = None) -> str:
        """Run a command of ``l4lb``; what it printed.

        Raises:
            LabError: it failed, or has not ended after ``timeout`` seconds, None: a minute.
        """
        return run(self._command(*self.program, *words), name=f"'l4lb {' '.join(words)}'", timeout=timeout)

    def start(self, timeout: float = READY) -> None:
        """Start it; back when it says that it is ready (sd_notify(3)).

        Raises:
            LabError: it ended, or was not ready after ``timeout`` seconds, and was killed.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            # A file: abstract names are out of reach from another network namespace.
            notify = self.log.with_name("notify.sock")
            notify.unlink(missing_ok=True)
            manager.bind(str(notify))
            self.launch(NOTIFY_SOCKET=str(notify))
            if not self._is_ready(manager, time.monotonic() + timeout):
                status = self._started.poll()
                self.kill()
                what = "is not ready in time" if status is None else f"ended with exit status {status}"
                raise LabError(f"l4lb run {what}: {self.last_words(1) or 'it said nothing'}")

    def launch(self, **environment: str) -> None:
        """Start it, and do not wait."""
        assert self._process is None, "the daemon is running already"
        with self.log.open("ab") as log:
            self._process = self._popen(log, environment)

    def _popen(self, log: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command(*self.program, "run"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=self._own_session,
        )

    def _is_ready(self, manager: socket.socket, deadline: float) -> bool:
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

    def wait_up(self, timeout: float = READY) -> None:
        """Back when all backends are up.

        Raises:
            LabError: they are not after ``timeout`` seconds, or it does not answer.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = max(deadline - time.monotonic(), _ANSWER)
            backends = json.loads(self.ask("backend", "list", "--json", timeout=left))["backends"]
            if all(backend["state"] == "up" for backend in backends):
                return
            if time.monotonic() > deadline:
                raise LabError(f"l4lb's backends do not come up; its log ends: {self.last_words(1)}")
            time.sleep(_LOOK)

    def wait(self, timeout: float = _ENDED) -> int:
        """Back when it has ended; its exit status.

        Raises:
            LabError: it was still there after ``timeout`` seconds, and was killed.
        """
        status = self._ended(timeout)
        if status is None:
            self.kill()
            raise LabError(f"l4lb run does not end: {self.last_words(1)}")
        return status

    def _ended(self, timeout: float) -> int | None:
        """Its exit status; None: it is still there after ``timeout`` seconds."""
        try:
            status = self._started.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._process = None
        return status

    def stop(self, timeout: float = _ENDED) -> int:
        """SIGTERM, as a service manager stops a service, which keeps what a restart needs; ``wait``."""
        self._started.terminate()
        return self.wait(timeout)

    def finish(self) -> None:
        """``l4lb stop``: it ends, with all that it has done to its host; or, where it was killed, with what
        it has left there.

        Raises:
            LabError: it did not by itself, and was closed, or ended with a failure.
        """
        try:
            self.ask("stop")
            status = self.wait() if self.is_running else 0
        except BaseException:
            self.close()
            raise
        if status:
            raise LabError(f"l4lb run ended with exit status {status}: {self.last_words(1)}")

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        self._started.kill()
        self._started.wait()
        self._process = None

    def close(self, timeout: float = _ENDED) -> None:
        """Whatever has happened: it does not run any more; and what it has done to its host is gone, unless
        also ``l4lb stop`` fails. That, SIGTERM and SIGKILL have ``timeout`` seconds each."""
        with suppress(LabError):  # it hangs, or there is no host any more
            self.ask("stop", timeout=timeout)
            if self.is_running:
                self._ended(timeout)
        if self.is_running:
            with suppress(LabError):  # then it was killed
                self.stop(timeout)

    def reload(self) -> None:
        """SIGHUP; back at once."""
        os.kill(self.pid, signal.SIGHUP)

    def last_words(self, lines: int) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@contextmanager
def running(
    command: Callable[..., list[str]], directory: Path, datapath: str, text: str
) -> Iterator[Daemon]:
    """l4lb with this config, ready, all backends up; nothing of it is left in the end.

    On an eBPF datapath it has a BPF file system of its own: on the machine's, it would meet the l4lb of
    others.

    Args:
        command, directory: of a ``Daemon``.
        datapath: the one that the config asks for.
        text: of the config.

    Raises:
        LabError: it does not come up, takes another datapath, or does not stop.
    """
    with ExitStack() as stack:
        holder = stack.enter_context(pins.own(command, READY)) if datapath in KERNEL_DATAPATHS else None
        daemon = Daemon(command, directory, holder=holder)
        daemon.configure(text)
        daemon.log.unlink(missing_ok=True)
        try:
            daemon.start()
            daemon.wait_up()
            taken = json.loads(daemon.ask("status", "--json"))["datapath"]["name"]
            if taken != datapath:
                raise LabError(f"l4lb takes the datapath {taken} where {datapath} is asked for")
            yield daemon
        except BaseException:
            daemon.close()
            raise
        daemon.finish()
