"""``l4lb run``, ``check``, ``reload``, ``stop`` and ``status``."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from l4lb.control.cleanup import DaemonAnswers
from tests.unit.cli.answers import STATUS

GOOD = """\
[[services]]
name = "web"
address = "10.1.0.100:80"
[[services.backends]]
address = "10.2.0.1:80"
"""


@pytest.fixture(autouse=True)
def signals_as_before():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "l4lb.toml"
    path.write_text(GOOD)
    return path


def test_run_calls_the_daemon_and_exits_as_it_says(l4lb, monkeypatch, config, tmp_path):
    calls = []

    def run(config_path: Path, socket_path: Path, *, log_level: str) -> int:
        calls.append((config_path, socket_path, log_level))
        return 1

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("l4lb.control.daemon.run", run)
    assert l4lb("run", "-c", str(config), "--log-level", "debug").exit_code == 1
    assert calls == [(config, tmp_path / "l4lb.sock", "debug")]


def test_a_reload_that_comes_while_run_begins_waits(l4lb, monkeypatch, config):
    def run(*arguments: object, log_level: str) -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        waiting.append(signal.sigpending())
        signal.sigtimedwait((signal.SIGHUP,), 0)
        return 0

    waiting: list[set[signal.Signals]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("l4lb.control.daemon.run", run)
    l4lb("run", "-c", str(config))
    assert waiting == [{signal.SIGHUP}]


def test_run_is_for_root(l4lb, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = l4lb("run")
    assert (result.exit_code, result.stderr) == (1, "l4lb: 'l4lb run' must be run as root\n")


def test_check_of_a_good_file(l4lb, config):
    result = l4lb("check", "-c", str(config))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{config}: no errors, 1 service, 1 backend\n"


def test_the_config_may_come_from_the_environment(l4lb, config):
    assert l4lb("check", L4LB_CONFIG=str(config)).stdout.startswith(f"{config}: no errors")


def test_check_of_a_bad_file(l4lb, config):
    config.write_text(GOOD + "weight = -1\n[[services]]\n")
    result = l4lb("-c", str(config), "check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"{config}:6:1: services[web].backends[0].weight: -1 is too small: at least 0",
        f"{config}:7:1: services[1].name: missing",
        f"{config}:7:1: services[1].address: missing",
    ]


def test_check_for_programs(l4lb, config):
    config.write_text("x = 1")
    result = l4lb("check", "--json", "-c", str(config))
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "config": str(config),
        "errors": [f"{config}:1:1: x: there is no such key (known: gateway, services)"],
        "warnings": [],
    }


def test_check_warns_of_a_key_that_cannot_be_read(l4lb, config, tmp_path):
    """The file is read for each question: it may come later, and the config has no error."""
    key = tmp_path / "agents.key"
    config.write_text(GOOD + f'[services.agent]\nport = 7077\nkey = "{key}"\n')
    line = f"{key}: cannot read the key: No such file or directory: the agents of service web are not asked"
    result = l4lb("check", "-c", str(config))
    assert (result.exit_code, result.stderr) == (0, f"warning: {line}\n")
    assert result.stdout == f"{config}: no errors, 1 service, 1 backend\n"
    assert json.loads(l4lb("check", "--json", "-c", str(config)).stdout) == {
        "config": str(config),
        "errors": [],
        "warnings": [line],
    }


@pytest.mark.parametrize(
    ("changes", "output"),
    [([], "nothing has changed\n"), (["a added", "b removed"], "a added\nb removed\n")],
)
def test_reload(l4lb, daemon, changes, output):
    daemon.answers["POST /v1/reload"] = {"changes": changes}
    assert l4lb("reload").stdout == output
    assert json.loads(l4lb("reload", "--json").stdout) == {"changes": changes}


def test_stop_asks_the_daemon(l4lb, daemon):
    daemon.answers["POST /v1/stop"] = {}
    assert l4lb("stop").stdout == "stopped\n"


def test_stop_without_a_daemon_cleans_up(l4lb, monkeypatch, tmp_path):
    calls = []

    def clean_up(socket_path: Path) -> list[str]:
        calls.append(socket_path)
        return ["VIP 10.1.0.100"]

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("l4lb.control.cleanup.clean_up", clean_up)
    result = l4lb("stop")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "no daemon was running; removed:\n  VIP 10.1.0.100\n"
    assert calls == [tmp_path / "l4lb.sock"]


def test_stop_asks_a_daemon_that_has_just_begun_to_answer(l4lb, daemon, monkeypatch):
    """While it starts there may be no socket yet, but the namespace is locked."""
    away = daemon.path.with_name("away")
    daemon.path.rename(away)

    def clean_up(socket_path: Path) -> list[str]:
        away.rename(daemon.path)
        raise DaemonAnswers("a daemon is running")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("l4lb.control.cleanup.clean_up", clean_up)
    daemon.answers["POST /v1/stop"] = {}
    result = l4lb("stop")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "stopped\n", "")


def test_stop_that_cannot_clean_up(l4lb, monkeypatch):
    def clean_up(socket_path: Path) -> list[str]:
        raise OSError("cannot remove it")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("l4lb.control.cleanup.clean_up", clean_up)
    result = l4lb("stop")
    assert (result.exit_code, result.stderr) == (1, "l4lb: cannot clean up: cannot remove it\n")


def test_only_root_cleans_up(l4lb, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = l4lb("stop")
    assert (result.exit_code, result.stderr) == (1, "l4lb: 'l4lb stop' must be run as root\n")


def test_status(l4lb, daemon):
    daemon.answers["GET /v1/status"] = STATUS
    assert l4lb("status").stdout.splitlines() == [
        "l4lb                    0.1.0, pid 4711, up for 1d2h",
        "config                  /etc/l4lb/l4lb.toml",
        "socket                  /run/l4lb/l4lb.sock",
        "datapath                raw",
        "  survives daemon       no",
        "  restores connections  yes",
        "  interfaces            eth0, eth1",
        "services                2",
        "VIP                     10.1.0.100 on eth0, added by l4lb",
        "VIP                     2001:db8::100 on eth0",
        "VIP                     10.1.0.101, on no interface",
        "connections             1200 established, 3 half-open",
        "packets                 pass 1, forward 2, reply 3, drop 4",
        "probes                  20 sent, 17 answered, 3 lost, 1 late, 40 withheld",
        "  agents                9 asked, 8 answered, 1 withheld",
        "  packets               56, 0.056% of those forwarded (budget 0.100%, at least 1/s)",
        "health checks           50 made, 200 packets",
        "agents' answers         refused: 3 unauthenticated, 1 late",
        "dropped",
        "  no backend            5",
        "  ttl exceeded          6",
        "warning: IPv6 forwarding is off",
    ]


def test_status_of_probes_that_are_off_or_have_nothing_to_be_compared_with(l4lb, daemon):
    probes = STATUS["probes"]
    daemon.answers["GET /v1/status"] = STATUS | {"probes": probes | {"part": None}}
    assert "56 (budget 0.100%, at least 1/s)" in l4lb("status").stdout
    daemon.answers["GET /v1/status"] = STATUS | {
        "probes": probes | {"limits": probes["limits"] | {"enabled": False}}
    }
    assert "probes                  off\n" in l4lb("status").stdout


def test_status_where_no_answer_of_an_agent_was_refused(l4lb, daemon):
    daemon.answers["GET /v1/status"] = STATUS | {"agents": {"refused": {}}}
    assert "refused" not in l4lb("status").stdout


def test_status_for_programs(l4lb, daemon):
    daemon.answers["GET /v1/status"] = STATUS
    assert json.loads(l4lb("status", "--json").stdout) == STATUS
