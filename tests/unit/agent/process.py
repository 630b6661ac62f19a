"""A real ``l4lb agent``, started and stopped, whose readiness is an event and not a guess."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from l4lb.model import Endpoint
from tests.unit.agent.packets import KEY

L4LB = (sys.executable, "-c", "from l4lb.cli.main import main; main()")
DEADLINE = 20.0  # seconds, for what should take less than one


def free_port(among: Sequence[int] = (0,)) -> int:
    """A port of loopback that nobody has, for TCP and UDP; 0: any. Who else looks for one among the same at
    the same time takes another one: they are tried in no order."""
    for port in random.sample(among, len(among)):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, suppress(OSError):
            tcp.bind(("127.0.0.1", port))
            udp.bind(tcp.getsockname())
            return int(tcp.getsockname()[1])
    raise AssertionError("no port is free")


def key_file(directory: Path, *keys: bytes) -> Path:
    path = directory / "key"
    path.write_text("\n".join(key.hex() for key in keys or (KEY,)))
    path.chmod(0o600)
    return path


class AgentProcess:
    """One that runs."""

    def __init__(self, process: subprocess.Popen[str], address: Endpoint, manager: socket.socket) -> None:
        self.process = process
        self.address = address
        self.manager = manager  # the service manager's end: what the agent tells it
        self._log = ""

    def stop(self) -> tuple[int, str]:
        """Ask it to end; its exit status and what it logged."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, self._log + log

    def wait_logged(self, text: str) -> None:
        """Back when it has logged this."""
        assert self.process.stderr is not None
        log = self.process.stderr.fileno()  # nothing is left in a buffer that ``communicate`` does not read
        while text not in self._log:
            assert select.select([log], [], [], DEADLINE)[0], f"not logged in {DEADLINE} s: {text}"
            said = os.read(log, 4096).decode()
            assert said, f"it has ended, and not logged: {text}"
            self._log += said


@contextmanager
def running(
    directory: Path,
    *options: str | Path,
    udp: bool = True,
    tcp: bool = False,
    user: int | None = None,
    watchdog: float | None = None,
    port: int | None = None,
) -> Iterator[AgentProcess]:
    """An agent that is ready, on a free port; ends with the block. A sign of life is expected of it every
    ``watchdog`` seconds."""
    address = Endpoint.parse(f"127.0.0.1:{port or free_port()}")
    where = [*(("--listen", str(address)) if udp else ()), *(("--tcp", str(address)) if tcp else ())]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE)
        manager.bind(f"\0l4lb-test-{os.getpid()}-{address.port}")
        process = subprocess.Popen(
            [*L4LB, "agent", *where, *map(str, options)],
            env=os.environ
            | {"NOTIFY_SOCKET": f"@l4lb-test-{os.getpid()}-{address.port}"}
            | ({"WATCHDOG_USEC": str(int(watchdog * 1e6))} if watchdog else {}),
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
        try:
            said = b""
            while said != b"READY=1":
                if process.poll() is not None:
                    raise AssertionError(f"the agent has ended: {process.communicate()[1]}")
                said = manager.recv(4096)
            yield AgentProcess(process, address, manager)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=DEADLINE)
