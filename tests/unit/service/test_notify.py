"""What the service manager is told."""

from __future__ import annotations

import socket
import time

import pytest

from l4lb.service.notify import notify, reloading


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(10)
        name = str(tmp_path / "notify")
        receiver.bind(name if request.param == "file" else "\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "file" else "@" + name)
        yield receiver


def test_ready(manager):
    notify("READY=1", "STATUS=balancing")
    assert manager.recv(1000) == b"READY=1\nSTATUS=balancing"


def test_a_reload_says_when_it_began(manager):
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    reloading()
    first, second = manager.recv(1000).decode().splitlines()
    assert first == "RELOADING=1"
    name, microseconds = second.split("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) / 1e6 + 1e-6 <= time.clock_gettime(time.CLOCK_MONOTONIC) + 1e-6


@pytest.mark.parametrize("value", ["", "vsock:2:1", "/nowhere/at/all"])
def test_no_manager_no_harm(value, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", value)
    notify("READY=1")
