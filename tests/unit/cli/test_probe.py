"""``l4lb probe``, with senders that do as a test says."""

import json
from collections.abc import Iterable

import pytest

from l4lb.health.probes.result import CannotProbe, Outcome, ProbeResult
from l4lb.health.probes.senders import Senders

ANSWERED = ProbeResult(Outcome.ANSWERED, 0.001, 3)
LOST = ProbeResult(Outcome.LOST, packets=1, reason="no answer within 1 s")


@pytest.fixture
def results(monkeypatch):
    """What the probes come to, in turn."""
    queue: list[ProbeResult | BaseException] = []
    queue_asked: list[tuple] = []

    async def send(self, kind, target, check):
        queue_asked.append((kind.value, str(target), check.timeout, check.path))
        result = queue.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(Senders, "send", send)

    def set_results(new: Iterable[ProbeResult | BaseException]):
        queue[:] = new
        return queue_asked

    return set_results


def test_one_line_for_each_probe_and_what_they_came_to(l4lb, results):
    asked = results([ANSWERED, LOST, ProbeResult(Outcome.ANSWERED, 0.003, 3)])
    done = l4lb("probe", "10.2.0.11:80", "--count", "3", "--interval", "0")
    first, *lines = done.stdout.splitlines()
    assert first.startswith("syn probes of 10.2.0.11:80: reachability and the network's round trip only")
    assert lines == [
        "1: answered in 1.000 ms",
        "2: lost, no answer within 1 s",
        "3: answered in 3.000 ms",
        "3 sent, 2 answered, 1 lost, 7 packets",
        "min/median/max 1.000/2.000/3.000 ms",
    ]
    assert done.exit_code == 0
    assert asked == [("syn", "10.2.0.11:80", 1.0, "/")] * 3


def test_no_answer_is_a_failure(l4lb, results):
    refused = ProbeResult(Outcome.REFUSED, 0.001, 2, "connection refused")
    results([LOST, refused])
    done = l4lb("probe", "[2001:db8::1]:80", "--count", "2", "--interval", "0")
    assert done.stdout.splitlines()[1:] == [
        "1: lost, no answer within 1 s",
        "2: refused in 1.000 ms",
        "2 sent, 0 answered, 1 lost, 1 refused, 3 packets",
    ]
    assert done.exit_code == 1


def test_json_has_every_probe_and_the_summary(l4lb, results):
    asked = results([ANSWERED])
    done = l4lb(
        *("probe", "10.2.0.11:80", "--kind", "http", "--path", "/x"),
        *("--timeout", "0.5", "--count", "1", "--json"),
    )
    answer = json.loads(done.stdout)
    (one,) = answer["probes"]
    assert one == {"outcome": "answered", "round_trip": 0.001, "packets": 3, "reason": "", "said": ""}
    assert (answer["kind"], answer["address"]) == ("http", "10.2.0.11:80")
    assert (answer["sent"], answer["answered"], answer["median"], answer["late"]) == (1, 1, 0.001, 0)
    assert asked == [("http", "10.2.0.11:80", 0.5, "/x")]


def test_whoever_has_seen_enough_gets_the_summary(l4lb, results):
    results([ANSWERED, KeyboardInterrupt()])
    done = l4lb("probe", "10.2.0.11:80", "--interval", "0")
    assert done.stdout.splitlines()[2:] == [
        "1 sent, 1 answered, 0 lost, 3 packets",
        "min/median/max 1.000/1.000/1.000 ms",
    ]
    assert done.exit_code == 0


def test_json_has_the_same_keys_when_it_was_cut_short(l4lb, results):
    whole, cut = [], []
    for keys, coming in ((whole, [ANSWERED]), (cut, [KeyboardInterrupt()])):
        results(coming)
        keys += json.loads(l4lb("probe", "10.2.0.11:80", "--count", "1", "--json").stdout)
    assert cut == whole


def test_what_a_server_says_does_not_reach_the_terminal_raw(l4lb, results):
    results([ProbeResult(Outcome.WRONG, packets=8, reason="not HTTP: \x1b[2J")])
    assert "\x1b" not in l4lb("probe", "10.2.0.11:80", "--count", "1").stdout


def test_without_permission_one_line_says_so(l4lb, results):
    results([CannotProbe("SYN probes need raw sockets: run this as root, or with CAP_NET_RAW")])
    done = l4lb("probe", "10.2.0.11:80")
    assert done.stderr == "l4lb: SYN probes need raw sockets: run this as root, or with CAP_NET_RAW\n"
    assert done.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("10.2.0.11",), "'10.2.0.11' has no port: write ADDRESS:PORT"),
        (("10.2.0.11:0",), "'0' is not a port"),
        (("web:80",), "'web' is not an IP address"),
        (("10.2.0.11:80", "--kind", "icmp"), "'icmp' is not one of 'syn', 'http'"),
        (("10.2.0.11:80", "--count", "0"), "0 is not in the range"),
        (("10.2.0.11:80", "--interval", "-1"), "'-1' is not a number of seconds from 0 to 3600"),
        (("10.2.0.11:80", "--interval", "nan"), "'nan' is not a number of seconds from 0 to 3600"),
        (("10.2.0.11:80", "--timeout", "0"), "'0' is not a number of seconds from 0.001 to 3600"),
        (("10.2.0.11:80", "--path", "/x"), "--path is for --kind http"),
        (("10.2.0.11:80", "--kind", "http", "--path", "x"), "'x' is not a path"),
        (("10.2.0.11:80", "--kind", "http", "--path", "/a b"), "'/a b' is not a path"),
    ],
)
def test_bad_input_is_wrong_usage_and_sends_nothing(l4lb, results, arguments, words):
    asked = results([])
    done = l4lb("probe", *arguments)
    assert words in " ".join(done.stderr.split())
    assert done.exit_code == 2
    assert asked == []


def test_an_agent_is_asked_with_its_key_and_what_it_says_is_shown(l4lb, monkeypatch):
    asked = []

    async def ask(self, target, how):
        asked.append((str(target), how.protocol, how.key, how.timeout))
        return ProbeResult(Outcome.ANSWERED, 0.001, 2, said="up ready, cpu 12%")

    monkeypatch.setattr(Senders, "ask", ask)
    done = l4lb("probe", "10.2.0.11:7077", "--kind", "agent", "--key", "/the/key", "--count", "1")
    assert done.stdout.splitlines()[1] == "1: answered in 1.000 ms: up ready, cpu 12%"
    done = l4lb("probe", "10.2.0.11:7077", "--kind", "agent-check", "--count", "1", "--json")
    assert json.loads(done.stdout)["probes"][0]["said"] == "up ready, cpu 12%"
    assert asked == [("10.2.0.11:7077", "udp", "/the/key", 1.0), ("10.2.0.11:7077", "tcp", None, 1.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kind", "agent"), "--kind agent needs --key"),
        (("--key", "/the/key"), "--key is for --kind agent"),
        (("--kind", "agent-check", "--key", "/the/key"), "--key is for --kind agent"),
    ],
)
def test_keys_belong_to_questions_by_udp(l4lb, options, message):
    done = l4lb("probe", "10.2.0.11:7077", *options)
    assert done.exit_code == 2
    assert message in done.stderr
