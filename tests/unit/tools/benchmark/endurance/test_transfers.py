"""The transfers that floods and restarts are measured with, on loopback."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.endurance import transfers

_SCRIPT = Path(transfers.__file__)


def python(*words: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, str(_SCRIPT), *words], stdin=pipe, stdout=pipe, text=True)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def server(port: int) -> Iterator["subprocess.Popen[str]"]:
    with python("serve", str(port)) as process:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
        yield process
        process.kill()


@pytest.fixture
def client(port: int, server: object) -> Iterator["subprocess.Popen[str]"]:
    with python("fetch", "5", str(port), "127.0.0.1") as process:
        yield process
        process.kill()


def mark(client: "subprocess.Popen[str]") -> dict[str, Any]:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("\n")
    client.stdin.flush()
    report: dict[str, Any] = json.loads(client.stdout.readline())
    return report


def test_whole_transfers_are_open_and_heard(client: "subprocess.Popen[str]"):
    while (report := mark(client))["silent"]:
        assert not report["broken"]
    assert (report["open"], report["broken"]) == (5, [])
    assert report["bytes"] > 0


def test_every_transfer_that_breaks_is_reported_once(
    client: "subprocess.Popen[str]", server: "subprocess.Popen[str]"
):
    mark(client)
    server.kill()
    server.wait()
    broken: list[str] = []
    while (report := mark(client))["open"]:
        broken += report["broken"]
    broken += report["broken"]
    assert len(broken) == 5
    assert mark(client)["broken"] == []


def test_other_bytes_than_were_sent_break_a_transfer(port: int):
    fetch = ("fetch", "1", str(port), "127.0.0.1")
    with socket.create_server(("127.0.0.1", port)) as listener, python(*fetch) as it:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(bytes(range(100)))
            while not (report := mark(it))["bytes"]:
                assert report["open"] == 1
            connection.sendall(bytes(range(99, 120)))
            while not (report := mark(it))["broken"]:
                assert report["open"] == 1
        assert (report["broken"], report["open"]) == (["other bytes than were sent"], 0)
        it.kill()
