"""A control socket with canned answers, and the command line to use against it."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from l4lb.cli.main import main


class FakeDaemon(socketserver.ThreadingUnixStreamServer):
    """Answers every request from ``answers`` and keeps what it was asked."""

    daemon_threads = False

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.path = path
        self.answers: dict[str, Any] = {}  # "GET /v1/status" -> JSON, or bytes as they are
        self.statuses: dict[str, int] = {}
        self.asked: list[tuple[str, Any]] = []  # ("POST /v1/x?y=1", body)


class Handler(BaseHTTPRequestHandler):
    server: FakeDaemon

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self) -> None:
        what = f"{self.command} {self.path}"
        length = int(self.headers.get("Content-Length", 0))
        self.server.asked.append((what, json.loads(self.rfile.read(length)) if length else None))
        answer = self.server.answers.get(what)
        if callable(answer):
            answer = answer()
        status = 404 if answer is None else self.server.statuses.get(what, 200)
        if answer is None:
            answer = {"errors": [f"nothing at {what}"]}
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = answer


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "l4lb.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


Run = Callable[..., Result]


@pytest.fixture
def l4lb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the socket of the fake daemon."""
    monkeypatch.setenv("L4LB_SOCKET", str(tmp_path / "l4lb.sock"))
    monkeypatch.delenv("L4LB_CONFIG", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # so that no test can change the host

    def run(*arguments: str, **environment: str) -> Result:
        result = CliRunner(env=environment).invoke(main, arguments, prog_name="l4lb")
        assert isinstance(result.exception, SystemExit | None), result.exception
        return result

    return run
