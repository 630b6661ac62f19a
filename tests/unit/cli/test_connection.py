"""``l4lb connection``."""

from __future__ import annotations

import json

import pytest


def connection(client: str, **changes: object) -> dict[str, object]:
    return {
        "service": "web",
        "protocol": "tcp",
        "client": client,
        "vip": "10.1.0.100:80",
        "source": client,
        "backend": "10.2.0.11:80",
        "state": "established",
        "idle": 3.2,
        "expires": 7436.8,
    } | changes


def test_list_shows_the_latest_first(l4lb, daemon):
    found = [
        connection("10.1.0.7:50000"),
        connection("10.1.0.8:50001", idle=0.1, state="fin_wait", expires=239.9),
    ]
    daemon.answers["GET /v1/connections?limit=1000"] = {"connections": found, "total": 2}
    result = l4lb("connection", "list")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["CLIENT", "VIP", "BACKEND", "STATE", "IDLE", "EXPIRES"],
        ["10.1.0.8:50001", "10.1.0.100:80", "10.2.0.11:80", "fin_wait", "0s", "3m"],
        ["10.1.0.7:50000", "10.1.0.100:80", "10.2.0.11:80", "established", "3s", "2h03m"],
    ]
    assert result.stderr == ""


def test_full_nat_shows_what_the_backend_sees(l4lb, daemon):
    found = [connection("10.1.0.7:50000", source="10.2.0.1:10240"), connection("10.1.0.8:50000", idle=9)]
    daemon.answers["GET /v1/connections?limit=1000"] = {"connections": found, "total": 2}
    header, first, second = (line.split() for line in l4lb("connection", "list").stdout.splitlines())
    assert header == ["CLIENT", "VIP", "FROM", "BACKEND", "STATE", "IDLE", "EXPIRES"]
    assert (first[2], second[2]) == ("10.2.0.1:10240", "10.1.0.8:50000")


def test_list_fits_80_columns(l4lb, daemon):
    found = [connection("203.0.113.200:50000", state="syn_received", vip="203.0.113.100:8080")]
    daemon.answers["GET /v1/connections?limit=1000"] = {"connections": found, "total": 1}
    lines = l4lb("connection", "list", COLUMNS="80").stdout.splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80


def test_list_with_every_filter(l4lb, daemon):
    query = "service=web&backend=%5B2001%3Adb8%3A%3A1%5D%3A80&client=2001%3Adb8%3A%3A7&limit=1"
    daemon.answers[f"GET /v1/connections?{query}"] = {"connections": [connection("10.1.0.7:1")], "total": 9}
    result = l4lb(
        *("connection", "list", "--service", "web", "--backend", "[2001:db8::1]:80"),
        *("--client", "2001:DB8::7", "--limit", "1"),
    )
    assert result.exit_code == 0
    assert result.stderr == "1 of 9: see --limit and the filters\n"


def test_nothing_to_list(l4lb, daemon):
    daemon.answers["GET /v1/connections?limit=1000"] = {"connections": [], "total": 0}
    assert l4lb("connection", "list").stdout == "No connections.\n"


def test_json_is_what_the_daemon_says(l4lb, daemon):
    answer = {"connections": [connection("10.1.0.7:1")], "total": 1}
    daemon.answers["GET /v1/connections?limit=1000"] = answer
    assert json.loads(l4lb("connection", "list", "--json").stdout) == answer


@pytest.mark.parametrize(
    ("options", "query"),
    [
        (("--all",), "all=1"),
        (("--service", "web"), "service=web"),
        (("--backend", "10.2.0.11:80", "--client", "10.1.0.7"), "backend=10.2.0.11%3A80&client=10.1.0.7"),
    ],
)
def test_flush(l4lb, daemon, options, query):
    daemon.answers[f"DELETE /v1/connections?{query}"] = {"flushed": 3}
    result = l4lb("connection", "flush", *options)
    assert (result.exit_code, result.stdout) == (0, "flushed 3 connections\n")


def test_flush_for_programs(l4lb, daemon):
    daemon.answers["DELETE /v1/connections?all=1"] = {"flushed": 1}
    assert json.loads(l4lb("connection", "flush", "--all", "--json").stdout) == {"flushed": 1}


@pytest.mark.parametrize("options", [(), ("--all", "--service", "web"), ("--client", "10.1.0.7:80")])
def test_flush_wants_a_filter_or_all_and_not_both(l4lb, daemon, options):
    result = l4lb("connection", "flush", *options)
    assert result.exit_code == 2
    assert daemon.asked == []
