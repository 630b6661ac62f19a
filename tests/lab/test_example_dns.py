"""The example dns.toml, with dnsmasq and dig."""

import re
from contextlib import ExitStack

import pytest

from tests.lab.clients import datagrams
from tests.lab.example import Server, balanced, example, need, wait_state
from tests.lab.services import BACKENDS, VIP

pytestmark = [pytest.mark.lab, pytest.mark.datapath("auto", "raw")]

HOSTS = ["web1", "web2"]
RECORD = "x" * 250
ANSWER = re.compile(r";; SERVER: .* \((UDP|TCP)\).*;; MSG SIZE  rcvd: (\d+)", re.DOTALL)


@pytest.fixture(scope="module")
def servers(lab, tmp_path_factory):
    """dnsmasq on two hosts, by host. It knows who it is, and some long answers."""
    need("dnsmasq", "dig")
    logs = tmp_path_factory.mktemp("dns")
    with ExitStack() as stack:
        yield {host: stack.enter_context(dnsmasq(lab, host, logs / host)) for host in HOSTS}


def dnsmasq(lab, host, log):
    options = [f"--txt-record=whoami.example.com,{host}", f"--listen-address={BACKENDS[4][host]}"]
    for count in (1, 3, 8):
        options += [f"--txt-record=of-{count}.example.com,{number}{RECORD}" for number in range(count)]
    return Server(
        lab,
        host,
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--log-facility=-",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--edns-packet-max=4096",
        *options,
        log=log,
    )


@pytest.fixture(scope="module")
def daemon(lab, servers):
    with balanced(lab, example("dns"), "dns-udp", "dns-tcp", hosts=HOSTS) as daemon:
        yield daemon


def dig(lab, name, *options):
    """What dig says of a TXT record; it asks once."""
    command = ("dig", f"@{VIP}", "+tries=1", "+time=5", *options, "TXT", f"{name}.example.com")
    return lab.exec("client", *command).stdout


def whoami(lab, *options):
    return dig(lab, "whoami", "+short", *options).strip().strip('"')


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_servers_take_turns(lab, daemon, transport):
    assert sorted(whoami(lab, transport) for _ in range(4)) == ["web1", "web1", "web2", "web2"]


@pytest.mark.parametrize(
    ("records", "options", "transport", "least"),
    [
        pytest.param(1, ["+noedns"], "UDP", 250, id="classic"),
        pytest.param(3, ["+noedns"], "TCP", 750, id="beyond 512 without EDNS: again over TCP"),
        pytest.param(3, [], "UDP", 750, id="beyond 512"),
        pytest.param(8, [], "TCP", 2000, id="beyond 1232: again over TCP"),
        pytest.param(8, ["+bufsize=4096"], "UDP", 2000, id="fragments"),
    ],
)
def test_answers_of_all_sizes_arrive(lab, daemon, records, options, transport, least):
    said = dig(lab, f"of-{records}", *options)
    assert said.count(RECORD) == records
    found = ANSWER.search(said)
    assert found, said
    assert found[1] == transport
    assert int(found[2]) > least


def test_a_question_is_forgotten_after_the_seconds_of_the_file(lab, daemon):
    daemon.cli("connection", "flush", "--service", "dns-udp")
    whoami(lab)
    [asked] = daemon.api.get("connections", service="dns-udp")["connections"]
    assert asked["state"] == "udp_answered"
    assert 4 < asked["idle"] + asked["expires"] <= 5
    with datagrams(lab, VIP, 53) as client:
        who_answers(client)
        who_answers(client)
        port = client.getsockname()[1]
        entries = daemon.api.get("connections", service="dns-udp")["connections"]
    [again] = [one for one in entries if one["client"].endswith(f":{port}")]
    assert again["state"] == "udp"
    assert 29 < again["idle"] + again["expires"] <= 30


def test_the_questions_of_a_server_that_stops_go_to_the_other(lab, daemon, servers):
    with datagrams(lab, VIP, 53) as one, datagrams(lab, VIP, 53) as other:
        clients = {who_answers(client): client for client in (one, other)}
        assert sorted(clients) == HOSTS
        with servers["web1"].stopped():
            for name in ("dns-udp", "dns-tcp"):
                wait_state(daemon, "web1", "down", name)
            assert who_answers(clients["web1"]) == "web2"
            assert {whoami(lab) for _ in range(4)} == {"web2"}
            assert {whoami(lab, "+tcp") for _ in range(4)} == {"web2"}
    for name in ("dns-udp", "dns-tcp"):
        wait_state(daemon, "web1", "up", name)


def who_answers(client):
    """The host that answers a socket's next question."""
    client.send(QUESTION)
    return client.recv(512)[-4:].decode()


QUESTION = b"\0\1\1\0\0\1\0\0\0\0\0\0\6whoami\7example\3com\0\0\x10\0\1"
"""The TXT record of whoami.example.com, as on the wire (RFC 1035 4.1)."""
