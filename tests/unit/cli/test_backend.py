"""``l4lb backend``."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.unit.cli.answers import agent, backend

ONE = "/v1/services/web/backends/10.2.0.13%3A80"
SIX = "/v1/services/web/backends/%5B2001%3Adb8%3A%3A1%5D%3A80"


@pytest.mark.parametrize(
    ("arguments", "asked", "body", "answer", "output"),
    [
        (
            ("add", "web", "10.2.0.13:80", "--weight", "2"),
            "POST /v1/services/web/backends",
            {"address": "10.2.0.13:80", "weight": 2, "runtime": False},
            {},
            "web: added backend 10.2.0.13:80, weight 2\n",
        ),
        (
            ("add", "web", "[2001:DB8:0::1]:80", "--runtime"),
            "POST /v1/services/web/backends",
            {"address": "[2001:db8::1]:80", "weight": 1, "runtime": True},
            {},
            "web: added backend [2001:db8::1]:80, weight 1\n",
        ),
        (
            ("remove", "web", "10.2.0.13:80"),
            f"DELETE {ONE}",
            None,
            {},
            "web: removed backend 10.2.0.13:80\n",
        ),
        (
            ("remove", "web", "[2001:db8::1]:80", "--runtime"),
            f"DELETE {SIX}?runtime=1",
            None,
            {},
            "web: removed backend [2001:db8::1]:80\n",
        ),
        (
            ("drain", "web", "10.2.0.13:80"),
            f"PATCH {ONE}",
            {"action": "drain", "runtime": False},
            backend("10.2.0.13:80", established=1),
            "web: draining 10.2.0.13:80, 1 connection left\n",
        ),
        (
            ("drain", "web", "10.2.0.13:80"),
            f"PATCH {ONE}",
            {"action": "drain", "runtime": False},
            backend("10.2.0.13:80", established=1, warning="service web has nobody"),
            "web: draining 10.2.0.13:80, 1 connection left; service web has nobody\n",
        ),
        (
            ("weight", "web", "10.2.0.13:80", "0"),
            f"PATCH {ONE}",
            {"weight": 0, "runtime": False},
            backend(weight=0, warning="service web has nobody"),
            "web: 10.2.0.13:80 has weight 0; service web has nobody\n",
        ),
        (
            ("enable", "web", "10.2.0.13:80", "--runtime"),
            f"PATCH {ONE}",
            {"action": "enable", "runtime": True},
            backend("10.2.0.13:80", weight=7, restored=True),
            "web: enabled 10.2.0.13:80, weight 7\n",
        ),
        (
            ("enable", "web", "10.2.0.13:80"),
            f"PATCH {ONE}",
            {"action": "enable", "runtime": False},
            backend("10.2.0.13:80", restored=False),
            "web: enabled 10.2.0.13:80, weight 1: what it had before it was drained is not known\n",
        ),
        (
            ("weight", "web", "10.2.0.13:80", "65535"),
            f"PATCH {ONE}",
            {"weight": 65535, "runtime": False},
            backend(weight=65535),
            "web: 10.2.0.13:80 has weight 65535\n",
        ),
    ],
)
def test_changes(l4lb, daemon, arguments, asked, body, answer, output):
    daemon.answers[asked] = answer
    result = l4lb("backend", *arguments)
    assert (result.stderr, result.stdout, result.exit_code) == ("", output, 0)
    assert daemon.asked == [(asked, body)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "web", "10.2.0.300:80"), "'10.2.0.300' is not an IP address"),
        (("add", "web", "10.2.0.3"), "'10.2.0.3' has no port: write ADDRESS:PORT"),
        (("remove", "web", "2001:db8::1:80"), "an IPv6 address is written in brackets"),
        (("drain", "web", "10.2.0.3:0"), "'0' is not a port (1-65535)"),
        (("add", "web", "10.2.0.3:80", "--weight", "65536"), "65536 is not in the range"),
        (("weight", "web", "10.2.0.3:80", "heavy"), "'heavy' is not a valid integer"),
    ],
)
def test_wrong_values_are_wrong_usage_and_nothing_is_asked(l4lb, daemon, arguments, message):
    result = l4lb("backend", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert daemon.asked == []


def test_list_without_rates_in_a_pipe_has_one_line_for_each_backend(l4lb, daemon):
    reason = "connect: " + 30 * "no route to host "
    daemon.answers["GET /v1/backends"] = {
        "backends": [backend(), backend("10.2.0.12:80", weight=0, state="down", reason=reason)]
    }
    lines = [line.split() for line in l4lb("backend", "list", "--interval", "0").stdout.splitlines()]
    assert lines == [
        ["SERVICE", "BACKEND", "WEIGHT", "STATE", "FOR", "ACTIVE", "WAIT", "RESPONSE", "REASON"],
        ["web", "10.2.0.11:80", "1", "up", "1h02m", "12", "3", "200ms"],
        ["web", "10.2.0.12:80", "0", "down", "1h02m", "12", "3", "200ms", *reason.split()],
    ]


def test_the_last_probe_and_how_long_ago_it_was(l4lb, daemon):
    answered = {"kind": "syn", "outcome": "answered", "age": 4.2, "round_trip": 0.000213, "reason": ""}
    lost = {"kind": "http", "outcome": "lost", "age": 61, "round_trip": None, "reason": "no answer"}
    probes = (answered, lost, None)
    backends = [backend(f"10.2.0.1{n}:80", probe=probe) for n, probe in enumerate(probes)]
    daemon.answers["GET /v1/backends"] = {"backends": backends}
    header, *lines = l4lb("backend", "list", "--interval", "0").stdout.splitlines()
    assert header.endswith("LAST PROBE")
    assert [line[header.index("LAST PROBE") :] for line in lines] == [
        "syn 213us, 4s ago",
        "http lost, 1m ago",
        "-",
    ]


def test_a_backend_that_is_not_in_the_file_is_marked(l4lb, daemon):
    daemon.answers["GET /v1/backends"] = {"backends": [backend(source="runtime")]}
    assert "  not as in the config file\n" in l4lb("backend", "list", "--interval", "0").stdout


def test_list_shows_what_agents_say_where_there_are_any(l4lb, daemon):
    daemon.answers["GET /v1/backends"] = {
        "backends": [
            backend(agent=agent()),
            backend(
                "10.2.0.12:80",
                agent=agent("silent", reason="ignored: no answer within 1 s", cpu=None, memory=None),
            ),
            backend("10.2.0.13:80", agent=agent("hot", reason="CPU 96%, limit 90%", cpu=0.96)),
            backend("10.2.0.14:80"),
            backend(
                "10.2.0.15:80",
                state="drain",
                reason="by its agent: down: disk full",
                agent=agent("down", reason="disk full"),
            ),
        ]
    }
    lines = [line.split() for line in l4lb("backend", "list", "--interval", "0").stdout.splitlines()]
    assert [line[8:] for line in lines] == [
        ["CPU", "MEM", "AGENT", "REASON"],
        ["42%", "8%", "ok"],
        ["-", "-", "silent", *["agent:", "ignored:", "no", "answer", "within", "1", "s"]],
        ["96%", "8%", "hot", *["agent:", "CPU", "96%,", "limit", "90%"]],
        ["-", "-", "-"],
        ["42%", "8%", "down", *["by", "its", "agent:", "down:", "disk", "full"]],
    ]


def test_list_measures_rates_between_two_looks(l4lb, daemon, monkeypatch):
    now = itertools.count(100.0, 0.5)
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    looks = iter([{"connections_total": 0, "bytes_in": 0}, {"connections_total": 60, "bytes_in": 125_000}])
    daemon.answers["GET /v1/backends"] = lambda: {
        "backends": [backend(**look, bytes_out=9) for look in [next(looks)]]
    }
    header, line = l4lb("backend", "list", "--interval", "0.25").stdout.splitlines()
    assert header.split()[4:] == ["FOR", "ACTIVE", "WAIT", "RESPONSE", "NEW/S", "IN", "OUT"]
    assert line.split() == ["web", "10.2.0.11:80", "1", "up", "1h02m", "12", "3", "200ms", "120", "2M", "0"]
    assert waited == [0.25]


def test_list_of_one_service(l4lb, daemon):
    daemon.answers["GET /v1/backends?service=web"] = {"backends": []}
    assert l4lb("backend", "list", "web", "--interval", "0").stdout == "No backends.\n"


def test_json_is_what_the_daemon_says_and_does_not_wait(l4lb, daemon):
    answer = {"backends": [backend()]}
    daemon.answers["GET /v1/backends"] = answer
    assert json.loads(l4lb("backend", "list", "--json").stdout) == answer
    assert len(daemon.asked) == 1


def test_list_on_80_columns_has_the_reasons_below(l4lb, daemon):
    reason = "GET /health: HTTP status 503 Service Unavailable"
    answer = {
        "backends": [
            backend(established=123_456),
            backend("[2001:db8:2::11]:80", weight=65535, state="down", reason=reason),
        ]
    }
    looks = iter([answer, answer])
    daemon.answers["GET /v1/backends"] = lambda: next(looks)
    lines = l4lb("backend", "list", "--interval", "0.001", COLUMNS="80").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 4
    assert lines[1].split()[:2] == ["web", "10.2.0.11:80"]
    assert lines[2].split()[:2] == ["web", "[2001:db8:2::11]:80"]
    assert lines[3] == f"  {reason}"


def test_addresses_are_never_cut(l4lb, daemon):
    address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"
    daemon.answers["GET /v1/backends"] = {"backends": [backend(address)]}
    assert address in l4lb("backend", "list", "--interval", "0", COLUMNS="40").stdout


def test_what_a_server_says_cannot_control_the_terminal(l4lb, daemon):
    daemon.answers["GET /v1/backends"] = {"backends": [backend(reason="\x1b]0;owned\x07 [red]:boom:")]}
    output = l4lb("backend", "list", "--interval", "0").stdout
    assert "?]0;owned? [red]:boom:" in output


@pytest.mark.parametrize("interval", ["nan", "inf", "-1", "60.1", "soon", ""])
def test_an_interval_that_cannot_be_waited_for(l4lb, daemon, interval):
    result = l4lb("backend", "list", "--interval", interval)
    assert result.exit_code == 2
    assert f"'{interval}' is not a number of seconds from 0 to 60" in result.stderr
    assert daemon.asked == []
