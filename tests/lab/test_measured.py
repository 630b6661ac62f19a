"""What l4lb learns of backends from real packets, and what the adaptive scheduler makes of it."""

import json
import socket
import struct
import time
from contextlib import ExitStack

import pytest

from l4lb.model import DECISIONS_APART
from netlab.gateway import endpoint
from tests.lab.clients import Browser, answers, begin_connecting, connected, wait_for
from tests.lab.services import VIP, VIP6, backend, listed, service
from tests.lab.test_probes import stalled

pytestmark = pytest.mark.lab

NAMES = ("web1", "web2", "web3")


@pytest.fixture(scope="module")
def daemon(lab):
    config = service(scheduler="round_robin") + service("web6", vip=VIP6, scheduler="round_robin")
    config += service("adaptive", port=8001, backend_port=80, scheduler="adaptive")
    with lab.daemon(config) as daemon:
        # A SYN that waits for neighbours to be found may be sent again, and then it is not timed.
        for vip in (VIP, VIP6):
            answers(lab, vip, 6)
        yield daemon


def measured(daemon, name):
    return {
        field: listed(daemon, field, name)
        for field in ("outstanding", "handshakes", "responses", "resets", "established")
    }


@pytest.mark.parametrize(("vip", "name"), [(VIP, "web"), (VIP6, "web6")])
def test_every_request_of_a_kept_connection_is_timed(lab, daemon, vip, name):
    before = measured(daemon, name)
    with Browser(lab, vip) as browser:
        for _ in range(5):
            browser.get()
        served = next(each for each in NAMES if listed(daemon, "established", name)[each])
        now = measured(daemon, name)
        assert now["responses"][served]["count"] - before["responses"][served]["count"] == 5
        assert now["handshakes"][served]["count"] - before["handshakes"][served]["count"] == 1
        assert 0 < now["responses"][served]["p50"] < 1
    wait_for("nothing outstanding", lambda: not any(listed(daemon, "outstanding", name).values()))


def test_what_nobody_answers_is_outstanding_until_it_ends(lab, daemon):
    with ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(stalled(lab, name))
        clients = [stack.enter_context(begin_connecting(lab, VIP)) for _ in NAMES]
        for client in clients:
            assert connected(client)  # the kernel of a stalled server answers for it
            client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        wait_for(
            "three requests outstanding",
            lambda: list(listed(daemon, "outstanding").values()) == [1, 1, 1],
        )
        waited = listed(daemon, "waiting")
        wait_for("them to grow older", lambda: listed(daemon, "waiting")["web1"] > waited["web1"] + 0.1)
        clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        clients[0].close()  # with RST: by a FIN alone it would go on waiting
        wait_for("one less", lambda: sum(listed(daemon, "outstanding").values()) == 2)
    wait_for("none", lambda: not any(listed(daemon, "outstanding").values()))


def test_adaptive_leaves_one_that_stalls_and_takes_it_back(lab, daemon):
    answers(lab, VIP, 60, port=8001)
    with ExitStack() as stack:
        stack.enter_context(stalled(lab, "web1"))

        def ask():
            client = stack.enter_context(begin_connecting(lab, VIP, 8001))
            assert connected(client)
            client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")

        def waits_at_web1_after_one_more():
            ask()
            return listed(daemon, "outstanding", "adaptive")["web1"] > 0

        def is_dear_after_one_more():
            ask()  # one request alone is forgiven after a while, and others may be slow by chance meanwhile
            return cost(daemon, "web1") > 2 * cost(daemon, "web2")

        # Its turn comes, though not at once if its last answers were slow by chance.
        wait_for("requests waiting at web1", waits_at_web1_after_one_more, 20.0)
        wait_for("its costs to rise", is_dear_after_one_more, 5.0)
        before = listed(daemon, "connections_total", "adaptive")["web1"]
        assert "web1" not in answers(lab, VIP, 30, port=8001)
        assert listed(daemon, "connections_total", "adaptive")["web1"] == before
    wait_for("it to be taken back", lambda: answers(lab, VIP, 10, port=8001).get("web1", 0), 20.0)


def cost(daemon, name):
    said = daemon.cli("explain", "10.1.0.10:40000", "adaptive", "--json")
    candidates = {each["address"]: each["cost"] for each in json.loads(said.stdout)["candidates"]}
    return candidates[backend(name)]


@pytest.mark.parametrize(("vip", "name", "rule"), [(VIP, "adaptive", "costs"), (VIP6, "web6", "turn")])
def test_the_decision_that_was_kept_is_the_one_that_was_made(lab, daemon, vip, name, rule):
    time.sleep(2 * DECISIONS_APART)  # or it may be left out, as alike to the one before
    with Browser(lab, vip, 8001 if name == "adaptive" else 80) as browser:
        served = browser.get()
        (kept,) = daemon.api.get("decisions", service=name, limit=1)["decisions"]
        client, port, *_ = browser.socket.getsockname()
        assert kept["client"] == endpoint(client, port)
        assert kept["backend"] == backend(served, 6 if vip == VIP6 else 4)
        assert kept["rule"] == rule
        assert 0 <= kept["age"] < 10
        if rule == "costs":
            assert (kept["compared"], kept["best"]["backend"]) == (3, kept["backend"])
            assert kept["runner_up"]["price"] >= kept["best"]["price"]
        table = daemon.cli("explain", "--last", "--service", name, "--limit", "1").stdout
        assert kept["client"] in table
