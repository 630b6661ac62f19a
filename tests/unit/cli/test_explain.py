"""``l4lb explain``."""

import json

import pytest

ASKED = "GET /v1/explain?client=10.1.0.7%3A40000&service=web"
CERTAIN = {
    "service": "web",
    "client": "10.1.0.7:40000",
    "scheduler": "least_connection",
    "backend": "10.2.0.11:80",
    "rule": "the least price = cost x (in flight + 1)",
    "otherwise": None,
    "but": None,
    "candidates": [
        {
            "address": "10.2.0.11:80",
            "weight": 1,
            "signals": {"response": "12ms, 3s ago"},
            "cost": 10,
            "in_flight": 1,
            "idle": 0,
            "price": 20,
            "hot": False,
        },
        {
            "address": "10.2.0.12:80",
            "weight": 2,
            "signals": {},
            "cost": 10,
            "in_flight": 5,
            "idle": 1,
            "price": 60,
            "hot": True,
        },
    ],
    "away": {"10.2.0.13:80": "drained: weight 0"},
}


def test_a_price(l4lb, daemon):
    daemon.answers[ASKED] = CERTAIN
    lines = l4lb("explain", "10.1.0.7:40000", "web").stdout.splitlines()
    assert lines[0].split() == ["backend", "10.2.0.11:80"]
    header = next(line for line in lines if line.startswith("BACKEND"))
    assert header.split("  ")[-1] == "RESPONSE"
    one, two = (next(line for line in lines if line.startswith(f"10.2.0.{n}:80")) for n in (11, 12))
    assert one.endswith("12ms, 3s ago")
    assert two.split()[1:] == ["2", "10", "5", "1", "3", "hot", "-"]
    assert lines[-1] == "not 10.2.0.13:80: drained: weight 0"


def test_a_turn(l4lb, daemon):
    turn = {"backend": None, "rule": "backends take turns", "but": "a client stays"}
    candidate = {"address": "10.2.0.11:80", "weight": 1, "signals": {}, "share": 0.25}
    daemon.answers[ASKED] = CERTAIN | turn | {"candidates": [candidate], "away": {}}
    output = l4lb("explain", "10.1.0.7:40000", "web").stdout
    assert "not certain" in output
    assert "a client stays" in output
    assert "25.0%" in output


@pytest.mark.parametrize(("backend", "shown"), [("10.2.0.12:80", "10.2.0.12:80"), (None, "not certain")])
def test_what_goes_before_the_scheduler(l4lb, daemon, backend, shown):
    daemon.answers[ASKED] = CERTAIN | {"otherwise": {"backend": backend, "rule": "backends take turns"}}
    lines = l4lb("explain", "10.1.0.7:40000", "web").stdout.splitlines()
    assert lines[0].split() == ["backend", "10.2.0.11:80"]
    assert ["otherwise", f"{shown}: backends take turns"] in [line.split(maxsplit=1) for line in lines]


def test_json_is_what_the_daemon_says(l4lb, daemon):
    daemon.answers[ASKED] = CERTAIN
    assert json.loads(l4lb("explain", "10.1.0.7:40000", "web", "--json").stdout) == CERTAIN


def test_a_client_without_a_port_is_wrong_usage(l4lb, daemon):
    result = l4lb("explain", "10.1.0.7", "web")
    assert result.exit_code == 2
    assert "has no port" in result.stderr


OFFER = {"backend": "10.2.0.11:80", "hot": False, "price": 512, "cost": 1, "in_flight": 1, "idle": 0}
SECOND = {"backend": "10.2.0.12:80", "hot": True, "price": 768, "cost": 1, "in_flight": 2, "idle": 3}
MADE = {
    "age": 1.25,
    "service": "web",
    "client": "10.1.0.7:40000",
    "backend": "10.2.0.11:80",
    "rule": "costs",
    "compared": 5,
    "best": OFFER,
    "runner_up": SECOND,
}


def test_the_last_choices(l4lb, daemon):
    turn = MADE | {"rule": "turn", "compared": 0, "best": None, "runner_up": None}
    alone = MADE | {"best": OFFER | {"hot": True}, "runner_up": None, "compared": 1}
    daemon.answers["GET /v1/decisions?limit=20"] = {"decisions": [MADE, turn, alone]}
    header, one, two, three = l4lb("explain", "--last").stdout.splitlines()
    assert header.split() == ["AGE", "CLIENT", "SERVICE", "BACKEND", "WHY", "SECOND", "BEST"]
    assert one.split("  ")[0].strip() == "1.2s"
    assert "the least of 5: cost 1, 1 in flight, 0 idle" in one
    assert "10.2.0.12:80: hot, 1.5 times as dear, cost 1, 2 in flight, 3 idle" in one
    assert two.split("  ")[-1].strip() == "-"
    assert "  its turn  " in two
    assert "all hot, the least of 1" in three


def test_the_last_choices_of_some(l4lb, daemon):
    daemon.answers["GET /v1/decisions?client=10.1.0.7&limit=5&service=web"] = {"decisions": []}
    done = l4lb("explain", "--last", "--service=web", "--client=10.1.0.7", "--limit=5", "--json")
    assert json.loads(done.stdout) == {"decisions": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "name a client and a service, or say --last"),
        ("10.1.0.7:40000", "name a client and a service, or say --last"),
        ("10.1.0.7:40000 web --client 10.1.0.7", "--client, --backend and --service are for --last"),
        ("--last 10.1.0.7:40000 web", "see --client and --service"),
    ],
)
def test_one_question_at_a_time(l4lb, daemon, arguments, message):
    done = l4lb("explain", *arguments.split())
    assert done.exit_code == 2
    assert message in done.stderr
