"""A real HAProxy with our agent: it follows weights and states, and its own checks have the last word."""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.unit.agent.process import DEADLINE, AgentProcess, running

pytestmark = pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")

CONFIG = """
global
    stats socket {directory}/stats level admin
defaults
    mode tcp
    timeout connect 2s
    timeout client 2s
    timeout server 2s
backend web
    server one 127.0.0.1:{server} weight 200 check inter 100ms fall 2 rise 1 \
agent-check agent-port {agent} agent-inter 100ms
"""


class Haproxy:
    """One that runs, and its opinion of the only server."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def server(self) -> dict[str, str]:
        with socket.socket(socket.AF_UNIX) as stats:
            stats.settimeout(DEADLINE)
            stats.connect(str(self._directory / "stats"))
            stats.sendall(b"show stat\n")
            with stats.makefile() as answer:
                rows = csv.DictReader(answer.read().removeprefix("# ").splitlines())
        (server,) = (row for row in rows if row["svname"] == "one")
        return server

    def comes_to(self, expected: Callable[[dict[str, str]], bool]) -> None:
        """Ask until it is so; HAProxy has no way to be told of a change."""
        deadline = time.monotonic() + DEADLINE
        while not expected(server := self.server()):
            assert time.monotonic() < deadline, server


@contextmanager
def haproxy(directory: Path, server: int, agent: AgentProcess) -> Iterator[Haproxy]:
    config = directory / "haproxy.cfg"
    config.write_text(CONFIG.format(directory=directory, server=server, agent=agent.address.port))
    process = subprocess.Popen(
        ["haproxy", "-f", str(config), "-db"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while not (directory / "stats").exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
        yield Haproxy(directory)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


@contextmanager
def listening() -> Iterator[socket.socket]:
    """A server that accepts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_accept, args=(server,))
        thread.start()
        try:
            yield server
        finally:
            with suppress(OSError):  # a test may have done so
                server.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)


def _accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def test_haproxy_follows_the_agent(tmp_path: Path):
    figure, state = tmp_path / "figure", tmp_path / "state"
    figure.write_text("0.95")
    options = ("--application", figure, "--application-max-age", "3600", "--interval", "0.05")
    with (
        listening() as server,
        running(tmp_path, *options, "--state", state, udp=False, tcp=True) as agent,
        haproxy(tmp_path, server.getsockname()[1], agent) as balancer,
    ):
        # The weight is the least room: a busy machine gives less than the application would.
        balancer.comes_to(lambda one: one["status"] == "UP" and 2 <= int(one["weight"]) <= 10)
        figure.write_text("1")
        balancer.comes_to(lambda one: one["status"] == "UP" and one["weight"] == "2")
        state.write_text("drain")
        balancer.comes_to(lambda one: one["status"].startswith("DRAIN"))
        state.write_text("maint")
        balancer.comes_to(lambda one: one["status"].startswith("MAINT"))
        state.unlink()
        balancer.comes_to(lambda one: one["status"] == "UP")
        state.write_text("down # disk full")
        balancer.comes_to(lambda one: one["status"].startswith("DOWN") and "disk full" in one["last_agt"])
        state.write_text("up")
        balancer.comes_to(lambda one: one["status"] == "UP")


def test_the_agents_word_does_not_keep_a_dead_server_in_haproxy(tmp_path: Path):
    with (
        running(tmp_path, "--interval", "0.05", udp=False, tcp=True) as agent,
        listening() as server,
        haproxy(tmp_path, server.getsockname()[1], agent) as balancer,
    ):
        balancer.comes_to(lambda one: one["status"] == "UP" and one["agent_status"] == "L7OK")
        server.shutdown(socket.SHUT_RDWR)
        balancer.comes_to(lambda one: one["status"] == "DOWN" and one["agent_status"] == "L7OK")
