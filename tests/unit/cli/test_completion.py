"""Shell completion."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from l4lb.cli.main import main
from l4lb.schedulers import SCHEDULERS
from tests.unit.cli.answers import backend, service


def completions(*words: str, incomplete: str = "") -> list[str]:
    complete = ShellComplete(main, {}, "l4lb", "_L4LB_COMPLETE")
    return [item.value for item in complete.get_completions(list(words), incomplete)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_for_l4lb_and_the_shell(l4lb, shell):
    result = l4lb("completion", shell)
    assert result.exit_code == 0
    assert f"_L4LB_COMPLETE={shell}_complete" in result.stdout


def test_no_script_for_other_shells(l4lb):
    assert l4lb("completion", "tcsh").exit_code == 2


def test_commands():
    assert completions(incomplete="st") == ["status", "stop"]


@pytest.mark.parametrize("command", [("backend", "drain"), ("service", "show"), ("backend", "list")])
def test_services(daemon, command):
    services = [service(), service(name="dns"), service(name="wiki")]
    daemon.answers["GET /v1/services"] = {"services": services}
    words = ("--socket", str(daemon.path), *command)
    assert completions(*words, incomplete="w") == ["web", "wiki"]


def test_backends_of_the_service_that_was_named(daemon):
    daemon.answers["GET /v1/backends?service=web"] = {"backends": [backend(), backend("[2001:db8::1]:80")]}
    words = ("--socket", str(daemon.path), "backend", "remove", "web")
    assert completions(*words) == ["10.2.0.11:80", "[2001:db8::1]:80"]
    assert completions(*words, incomplete="10.2") == ["10.2.0.11:80"]


def test_backends_of_all_services_as_a_filter(daemon):
    daemon.answers["GET /v1/backends"] = {"backends": [backend()]}
    words = ("--socket", str(daemon.path), "connection", "list", "--backend")
    assert completions(*words) == ["10.2.0.11:80"]


def in_bash(l4lb, daemon, typed, breaks):
    """What bash puts in the place of its last word, which begins behind the last of ``breaks``."""
    backends = {"backends": [backend(), backend("[2001:db8::1]:80")]}
    daemon.answers |= {"GET /v1/backends?service=web": backends, "GET /v1/backends": backends}
    folder = daemon.path.parent
    (folder / "[").write_text("")  # and takes no word for a pattern
    script = l4lb("completion", "bash").stdout
    ask = 'COMP_WORDBREAKS=$1; _l4lb_completion "$0"; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", script + ask, Path(sys.executable).with_name("l4lb"), breaks],
        cwd=folder,
        env=os.environ | {"COMP_LINE": f"l4lb {typed}", "COMP_POINT": str(5 + len(typed))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("backend remove web ", ["10.2.0.11:80", "[2001:db8::1]:80"]),
        ("backend remove web 10.2.", ["10.2.0.11:80"]),
        ("backend remove web 10.2.0.11:", ["80"]),
        ("backend remove web 10.2.0.11:8", ["80"]),
        ("backend remove web [", ["[2001:db8::1]:80"]),
        ("backend remove web [2001:db8:", [":1]:80"]),
        ("backend remove web 10.2.0.12:", []),
        ("connection list --backend=10.2.0.11:8", ["80"]),
        ("connection list --backend 10.2.0.11:80 --lim", ["--limit"]),
    ],
)
def test_addresses_in_bash_whose_words_end_at_colons(l4lb, daemon, typed, completed):
    assert in_bash(l4lb, daemon, typed, " \t\n\"'><=;|&(:") == completed


def test_addresses_in_bash_whose_words_do_not(l4lb, daemon):
    assert in_bash(l4lb, daemon, "backend remove web 10.2.0.11:8", " \t\n") == ["10.2.0.11:80"]


def test_schedulers():
    words = ("service", "add", "web", "10.1.0.100:80", "--scheduler")
    assert completions(*words, incomplete="ma") == ["maglev"]


def test_a_scheduler_with_what_it_does():
    words = ["service", "add", "web", "10.1.0.100:80", "--scheduler"]
    (found,) = ShellComplete(main, {}, "l4lb", "_L4LB_COMPLETE").get_completions(words, "maglev")
    assert found.help == SCHEDULERS["maglev"].description


def test_without_a_daemon_there_is_nothing_to_complete(tmp_path):
    assert completions("--socket", str(tmp_path / "none.sock"), "service", "show") == []


def test_a_daemon_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("l4lb.cli.completion._TIMEOUT", 0.01)
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert completions("--socket", str(path), "service", "show") == []
