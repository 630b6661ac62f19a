"""``l4lb service``."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from l4lb.cli.service import add
from l4lb.control.config.schema import HealthTable
from tests.unit.cli.answers import backend, service


def test_list(l4lb, daemon):
    backends = backend(), backend("10.2.0.12:80", state="down"), backend("10.2.0.13:80", state="drain")
    daemon.answers["GET /v1/services"] = {
        "services": [
            service(*backends),
            service(name="dns", protocol="udp", scheduler="round_robin", nat="full"),
        ]
    }
    lines = [line.split() for line in l4lb("service", "list").stdout.splitlines()]
    assert lines == [
        ["SERVICE", "ADDRESS", "PROTO", "SCHEDULER", "NAT", "BACKENDS", "ACTIVE"],
        ["web", "10.1.0.100:80", "tcp", "maglev", "destination", "1/3", "36"],
        ["dns", "10.1.0.100:80", "udp", "round_robin", "full", "0/0", "0"],
    ]


def test_list_fits_80_columns(l4lb, daemon):
    daemon.answers["GET /v1/services"] = {"services": [service(scheduler="least_connection")]}
    assert max(map(len, l4lb("service", "list", COLUMNS="80").stdout.splitlines())) <= 80


@pytest.mark.parametrize(("command", "path"), [(("list",), "services"), (("show", "web"), "services/web")])
def test_json_is_what_the_daemon_says(l4lb, daemon, command, path):
    answer = {"services": [service(backend())]}
    daemon.answers[f"GET /v1/{path}"] = answer
    assert json.loads(l4lb("service", *command, "--json").stdout) == answer


def test_show(l4lb, daemon):
    daemon.answers["GET /v1/services/web"] = service(backend(), affinity="client")
    assert l4lb("service", "show", "web").stdout.splitlines()[:10] == [
        "name                    web",
        "address                 10.1.0.100:80 tcp",
        "scheduler               maglev",
        "nat                     destination",
        "affinity                client, for 5m",
        "when all down           refuse",
        "when a backend is down  reset",
        "health check            http on port 8080 /health of www.example.org, status 200-299 304, "
        "every 2 s, timeout 1 s, up after 2, down after 3",
        "agents                  none",
        "",
    ]


def test_show_of_a_service_that_is_not_checked(l4lb, daemon):
    daemon.answers["GET /v1/services/dns"] = service(health={"check": "none"})
    assert "health check            none\n" in l4lb("service", "show", "dns").stdout


@pytest.mark.parametrize(
    ("protocol", "key", "asked"),
    [("udp", "/etc/l4lb/key", "key /etc/l4lb/key"), ("tcp", None, "HAProxy's agent-check")],
)
def test_show_of_a_service_whose_agents_are_asked(l4lb, daemon, protocol, key, asked):
    agent = {"port": 7077, "protocol": protocol, "key": key, "interval": 2.0, "timeout": 0.5}
    agent |= {"cpu_limit": 0.9, "memory_limit": 0.95}
    daemon.answers["GET /v1/services/web"] = service(agent=agent)
    assert (
        f"agents                  {protocol} port 7077, {asked}, every 2 s, timeout 0.5 s, "
        "hot above 90% CPU or 95% memory\n\nNo backends.\n"
    ) in l4lb("service", "show", "web").stdout


def test_show_of_a_service_that_does_not_exist(l4lb, daemon):
    daemon.answers["GET /v1/services/no"] = {"errors": ["there is no service 'no'"]}
    daemon.statuses["GET /v1/services/no"] = 404
    result = l4lb("service", "show", "no")
    assert (result.exit_code, result.stderr) == (1, "l4lb: there is no service 'no'\n")


def test_add_says_only_what_was_said(l4lb, daemon):
    daemon.answers["POST /v1/services"] = {}
    result = l4lb("service", "add", "web", "10.1.0.100:80")
    assert (result.exit_code, result.stdout) == (0, "added service web at 10.1.0.100:80\n")
    assert daemon.asked[0][1] == {"runtime": False, "service": {"name": "web", "address": "10.1.0.100:80"}}


def test_add_with_everything(l4lb, daemon):
    daemon.answers["POST /v1/services"] = {}
    result = l4lb(
        *("service", "add", "web", "10.1.0.100:80", "--protocol", "tcp", "--scheduler", "maglev"),
        *("--nat", "full", "--affinity", "client", "--affinity-timeout", "60"),
        *("--when-all-down", "use_all", "--when-backend-down", "keep"),
        *("--check", "http", "--check-port", "8080", "--check-path", "/health"),
        *("--backend", "10.2.0.11:80", "--backend", "10.2.0.12:80", "--runtime"),
    )
    assert result.exit_code == 0
    assert daemon.asked[0][1] == {
        "runtime": True,
        "service": {
            "name": "web",
            "address": "10.1.0.100:80",
            "protocol": "tcp",
            "scheduler": "maglev",
            "nat": "full",
            "affinity": "client",
            "affinity_timeout": 60.0,
            "when_all_down": "use_all",
            "when_backend_down": "keep",
            "health": {"check": "http", "port": 8080, "path": "/health"},
            "backends": [{"address": "10.2.0.11:80"}, {"address": "10.2.0.12:80"}],
        },
    }


def test_add_knows_every_check_of_the_config(l4lb, daemon):
    kinds = HealthTable.model_fields["check"].annotation
    (check,) = (option for option in add.params if option.name == "check")
    assert check.type.choices == get_args(get_args(kinds)[0])


def test_add_with_a_check_by_agents(l4lb, daemon):
    daemon.answers["POST /v1/services"] = {}
    result = l4lb(
        *("service", "add", "web", "10.1.0.100:80", "--check", "agent"),
        *("--agent-port", "7077", "--agent-protocol", "udp", "--agent-key", "/etc/l4lb/agents.key"),
    )
    assert result.exit_code == 0
    assert daemon.asked[0][1]["service"] == {
        "name": "web",
        "address": "10.1.0.100:80",
        "health": {"check": "agent"},
        "agent": {"port": 7077, "protocol": "udp", "key": "/etc/l4lb/agents.key"},
    }


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--agent-key", "/k"), "--agent-key and --agent-protocol need an --agent-port"),
        (("--check-path", "/x"), "--check-path needs --check http"),
        (("--check-path", "/x", "--check", "tcp"), "--check-path needs --check http"),
        (("--scheduler", "fair"), "'fair' is not one of round_robin, least_connection, "),
        (("--backend", "10.2.0.300:80"), "'10.2.0.300' is not an IP address"),
        (("--nat", "source"), "'source' is not one of 'destination', 'full'"),
        (("--affinity-timeout", "0"), "'0' is not a number of seconds from 1 to "),
        (("--affinity-timeout", "nan"), "'nan' is not a number of seconds from 1 to "),
    ],
)
def test_wrong_options_are_wrong_usage(l4lb, daemon, option, message):
    result = l4lb("service", "add", "web", "10.1.0.100:80", *option)
    assert result.exit_code == 2
    assert message in result.stderr
    assert daemon.asked == []


@pytest.mark.parametrize(("options", "query"), [((), ""), (("--runtime",), "?runtime=1")])
def test_remove(l4lb, daemon, options, query):
    daemon.answers[f"DELETE /v1/services/web{query}"] = {}
    result = l4lb("service", "remove", "web", *options)
    assert (result.exit_code, result.stdout) == (0, "removed service web\n")


def test_names_are_encoded_so_that_they_stay_one_part_of_the_path(l4lb, daemon):
    l4lb("service", "remove", "a/../b?x=1")
    assert daemon.asked == [("DELETE /v1/services/a%2F..%2Fb%3Fx%3D1", None)]
