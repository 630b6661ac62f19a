"""Which config and which daemon a command means, and what it says if it cannot reach it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import pytest

from l4lb.cli.client import Client, DaemonError
from tests.unit.cli.answers import STATUS
from tests.unit.cli.conftest import FakeDaemon

GONE = "l4lb: no daemon answers at {}: start one with 'l4lb run', or name its socket with --socket\n"

# The import comes first: the interpreter may stand where nobody else may read.
RUN = "import os; from l4lb.cli.main import main; os.setgroups([]); os.setuid(65534); main()"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--socket", "{}", "service", "list"),
        ("service", "--socket", "{}", "list"),
        ("service", "list", "--socket", "{}"),
        ("--socket", "/nowhere", "service", "list", "--socket", "{}"),
    ],
)
def test_the_socket_may_be_named_before_and_after_the_command(l4lb, daemon, arguments):
    daemon.answers["GET /v1/services"] = {"services": []}
    result = l4lb(*(argument.format(daemon.path) for argument in arguments), L4LB_SOCKET="/nowhere")
    assert (result.exit_code, result.stdout) == (0, "No services.\n")


def test_an_option_before_the_command_outdoes_the_environment(l4lb):
    assert l4lb("--socket", "/a", "status", L4LB_SOCKET="/b").stderr == GONE.format("/a")
    assert l4lb("status", L4LB_SOCKET="/b").stderr == GONE.format("/b")


def test_a_relative_socket_is_made_absolute(l4lb):
    assert l4lb("--socket", "x.sock", "status").stderr == GONE.format(Path.cwd() / "x.sock")


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("reload",),
        ("service", "list"),
        ("service", "show", "web"),
        ("service", "add", "web", "10.1.0.100:80"),
        ("service", "remove", "web"),
        ("top",),
        ("backend", "list"),
        ("backend", "add", "web", "10.2.0.11:80"),
        ("backend", "remove", "web", "10.2.0.11:80"),
        ("backend", "drain", "web", "10.2.0.11:80"),
        ("backend", "enable", "web", "10.2.0.11:80"),
        ("backend", "weight", "web", "10.2.0.11:80", "3"),
        ("connection", "list"),
        ("connection", "flush", "--all"),
        ("explain", "10.1.0.10:40000", "web"),
        ("explain", "--last"),
    ],
)
def test_without_a_daemon_every_command_says_so_and_what_to_do(l4lb, tmp_path, arguments):
    result = l4lb(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == GONE.format(tmp_path / "l4lb.sock")


def test_a_socket_nobody_listens_on_is_no_daemon(l4lb, tmp_path):
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "l4lb.sock"))
    assert l4lb("status").stderr == GONE.format(tmp_path / "l4lb.sock")


def test_without_permission(l4lb, daemon, monkeypatch):
    def refuse(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    result = l4lb("status")
    assert result.exit_code == 1
    assert result.stderr == f"l4lb: no permission to use {daemon.path}: run this as root\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_without_permission_as_the_kernel_sees_it(daemon):
    daemon.path.chmod(0o600)
    result = subprocess.run(
        [sys.executable, "-c", RUN, "--socket", str(daemon.path), "status"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == f"l4lb: no permission to use {daemon.path}: run this as root\n"


def test_a_path_too_long_for_a_socket(l4lb):
    result = l4lb("--socket", "/" + 200 * "x", "status")
    assert result.exit_code == 1
    assert "AF_UNIX path too long" in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_the_daemon_refuses_is_repeated_line_by_line(l4lb, daemon):
    daemon.answers["POST /v1/reload"] = {"errors": ["l4lb.toml:1:1: a", "l4lb.toml:2:1: b"]}
    daemon.statuses["POST /v1/reload"] = 400
    result = l4lb("reload")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "l4lb: l4lb.toml:1:1: a\nl4lb: l4lb.toml:2:1: b\n"


@pytest.mark.parametrize("answer", [b"<html>", b"\xff", b""])
def test_something_else_that_answers_is_not_taken_for_a_daemon(l4lb, daemon, answer):
    daemon.answers["GET /v1/status"] = answer
    result = l4lb("status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"l4lb: what answers at {daemon.path} is not l4lb: check --socket\n"


@pytest.mark.parametrize(
    ("command", "asked", "answer"),
    [
        (("status",), "GET /v1/status", {"version": "0.0.1"}),
        (("status",), "GET /v1/status", STATUS | {"checks": {"made": 1}}),
        (("backend", "list"), "GET /v1/backends", {"backends": [{"service": "web"}]}),
        (("service", "list"), "GET /v1/services", []),
        (("reload",), "POST /v1/reload", {}),
        (("top", "--once"), "GET /v1/overview", {"status": STATUS}),
    ],
)
def test_a_daemon_of_another_version_is_told_from_a_bug(l4lb, daemon, command, asked, answer):
    daemon.answers[asked] = answer
    result = l4lb(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "l4lb: the daemon and this l4lb are of different versions: restart the daemon\n"


def test_an_error_without_words_is_reported_by_its_status(l4lb, daemon):
    daemon.answers["GET /v1/status"], daemon.statuses["GET /v1/status"] = [], 503
    assert l4lb("status").stderr == "l4lb: the daemon refused with HTTP status 503\n"


def test_a_daemon_that_does_not_answer_in_time(tmp_path):
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(DaemonError, match=f"the daemon at {path} did not answer within 0.01 seconds"):
            Client(path, timeout=0.01).get("status")


def test_a_daemon_that_hangs_up(tmp_path):
    path = tmp_path / "dying.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=lambda: listening.accept()[0].close())
        thread.start()
        with pytest.raises(DaemonError) as caught:
            Client(path).get("status")
        thread.join()
    assert caught.value.lines == (f"the daemon at {path} hung up without an answer: see its log",)


def test_a_daemon_with_another_config_than_the_one_named_is_not_touched(l4lb, daemon):
    daemon.answers["GET /v1/status"] = STATUS
    result = l4lb("-c", "/tmp/other.toml", "backend", "drain", "web", "10.2.0.11:80")
    assert result.exit_code == 1
    differs = "uses /etc/l4lb/l4lb.toml, not /tmp/other.toml"
    assert result.stderr == f"l4lb: the daemon at {daemon.path} {differs}\n"
    assert daemon.asked == [("GET /v1/status", None)]


def test_the_daemon_with_the_config_named_is_asked(l4lb, daemon):
    daemon.answers |= {"GET /v1/status": STATUS, "GET /v1/services": {"services": []}}
    result = l4lb("service", "list", "-c", "/etc/l4lb/../l4lb/l4lb.toml")
    assert (result.exit_code, result.stdout) == (0, "No services.\n")


def test_wrong_usage_is_exit_status_2(l4lb):
    assert l4lb("no-such-command").exit_code == 2
    assert l4lb("backend", "add", "web").exit_code == 2


def test_the_version(l4lb):
    assert l4lb("--version").stdout == f"l4lb {version('l4lb')}\n"


def test_commands_that_need_no_heavy_library_import_none(daemon: FakeDaemon):
    daemon.answers["GET /v1/status"] = STATUS
    code = (
        "import sys\n"
        "from l4lb.cli.main import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "sys.exit(str({'rich', 'aiohttp', 'pydantic', 'pyroute2', 'scapy', 'asyncio'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "--socket", str(daemon.path), "status"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == "set()\n"
    assert "pid 4711" in result.stdout
