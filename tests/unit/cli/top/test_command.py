"""``l4lb top`` where there is no terminal, and what it imports."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.unit.cli.answers import service
from tests.unit.cli.test_completion import completions
from tests.unit.cli.top.overview import overview


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("arguments", [(), ("--once", "--interval", "0.2")])
def test_one_frame_from_two_looks(l4lb, daemon, arguments):
    looks = iter([overview(), overview({"10.2.0.12:80": {"connections_total": 1001}})])
    daemon.answers["GET /v1/overview"] = lambda: next(looks)
    lines = l4lb("top", *arguments).stdout.splitlines()
    assert lines[0].startswith("l4lb on ")
    assert lines[0].endswith(", up for 1d2h")
    assert "warning: IPv6 forwarding is off" in lines
    header = next(place for place, line in enumerate(lines) if line.startswith("SERVICE"))
    assert lines[header].split() == [
        *("SERVICE", "BACKEND", "STATE", "WEIGHT", "FOR", "SHARE", "NEW/S", "REQ/S", "P50", "P99"),
        *("WAIT", "ACTIVE", "IN", "OUT", "REASON"),
    ]
    rows = [line.split() for line in lines[header + 1 :]]
    assert [row[1] for row in rows] == [
        *("10.1.0.100:80", "10.2.0.11:80", "10.2.0.12:80", "10.2.0.13:80"),
        *("10.1.0.100:53", "[2001:db8::53]:53"),
    ]
    assert rows[2][2:6] == ["up", "1", "1h02m", "100%"]
    assert rows[5][-2:] == ["connection", "refused"]
    assert [what for what, _ in daemon.asked] == 2 * ["GET /v1/overview"]


def test_one_service_sorted(l4lb, daemon):
    daemon.answers |= {
        "GET /v1/overview": overview({"10.2.0.13:80": {"outstanding": 9}}),
        "GET /v1/services/web": service(),
    }
    out = l4lb("top", "--service", "web", "--sort", "wait").stdout
    assert out.index("10.2.0.13:80") < out.index("10.2.0.11:80")
    assert "dns" not in out


def test_no_such_service(l4lb, daemon):
    daemon.answers["GET /v1/services/no"] = {"errors": ["there is no service 'no'"]}
    daemon.statuses["GET /v1/services/no"] = 404
    result = l4lb("top", "--service", "no")
    assert (result.exit_code, result.stderr) == (1, "l4lb: there is no service 'no'\n")


@pytest.mark.parametrize("arguments", [("--interval", "0.1"), ("--interval", "61"), ("--sort", "luck")])
def test_wrong_usage(l4lb, arguments):
    assert l4lb("top", *arguments).exit_code == 2


def test_columns_are_completed():
    assert completions("top", "--sort", incomplete="p") == ["p50", "p99"]


def test_other_commands_do_not_import_it():
    code = (
        "import sys\n"
        "from l4lb.cli.main import main\n"
        "sys.exit(str(sorted(name for name in sys.modules if name.startswith('l4lb.cli.top.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "['l4lb.cli.top.command']\n"
