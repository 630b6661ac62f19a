"""Real agents on the lab's hosts: what the gateway lists, and where new connections go."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager

import pytest

from tests.lab.clients import answers, wait_for
from tests.lab.nft import nft_table
from tests.lab.services import BACKENDS, UNCHECKED, VIP, listed, service
from tests.unit.agent.process import DEADLINE, L4LB, key_file

pytestmark = [pytest.mark.lab, pytest.mark.datapath("raw")]

PORT = 7077
AGENTS = """
[services.agent]
port = 7077
interval = 0.1
key = "{key}"
"""


@pytest.fixture
def key(tmp_path):
    return key_file(tmp_path)


@contextmanager
def agent(lab, name, key, state):
    """An agent on a host."""
    where = ("--listen", f"{BACKENDS[4][name]}:{PORT}", "--key", key, "--interval", "0.1")
    process = lab.popen(name, *L4LB, "agent", *where, "--state", state)
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


def agents(daemon, field="state"):
    return {name: said[field] for name, said in listed(daemon, "agent").items()}


def test_agents_are_listed_and_the_missing_one_is_ignored(lab, key, tmp_path):
    with (
        agent(lab, "web1", key, tmp_path / "state1"),
        agent(lab, "web2", key, tmp_path / "state2"),
        lab.daemon(service(health=UNCHECKED + AGENTS.format(key=key))) as daemon,
    ):
        wait_for("web1's CPU", lambda: agents(daemon, "cpu")["web1"] is not None)
        wait_for("web2's memory", lambda: agents(daemon, "memory")["web2"] is not None)
        wait_for("web3's failure", lambda: agents(daemon)["web3"] == "silent")
        assert agents(daemon, "reason")["web3"] == "ignored: no answer within 1 s"
        assert 0 < agents(daemon, "memory")["web2"] < 1
        assert answers(lab, VIP, 6) == {"web1": 2, "web2": 2, "web3": 2}
        table = daemon.cli("backend", "list", "--interval", "0").stdout
    header, *lines = table.splitlines()
    (web3,) = (line for line in lines if f"{BACKENDS[4]['web3']}:80" in line)
    assert re.search(r"CPU +MEM +AGENT", header)
    assert re.search(r"- +- +silent", web3)


def test_an_agent_drains_its_host_and_brings_it_back(lab, key, tmp_path):
    state = tmp_path / "state"
    with (
        agent(lab, "web1", key, state),
        lab.daemon(service(health=UNCHECKED + AGENTS.format(key=key))) as daemon,
    ):
        state.write_text("drain")
        wait_for("web1 to drain", lambda: "web1" not in answers(lab, VIP, 6))
        assert agents(daemon)["web1"] == "drain"
        state.unlink()
        wait_for("web1 to come back", lambda: "web1" in answers(lab, VIP, 6))


def test_a_host_is_down_when_its_agent_says_so_or_does_not_answer(lab, key, tmp_path):
    check = 'check = "agent"\ninterval = 0.1\ntimeout = 0.5\nrise = 1\nfall = 1'
    state = tmp_path / "state"
    with (
        agent(lab, "web1", key, state),
        lab.daemon(service(health=check + AGENTS.format(key=key))) as daemon,
    ):
        wait_for("web1 to be up", lambda: listed(daemon, "state")["web1"] == "up")
        state.write_text("down # disk full")
        reasons = {
            "web1": "agent: down",
            "web2": "agent: no answer within 0.5 s",
            "web3": "agent: no answer within 0.5 s",
        }
        wait_for("all to be down", lambda: listed(daemon, "reason") == reasons)
        assert set(listed(daemon, "state").values()) == {"down"}


ON_THE_WIRE = """
table inet asked {
    counter questions {}
    counter answers {}
    chain in { type filter hook input priority -300; udp dport 7077 counter name questions; }
    chain out { type filter hook output priority -300; udp sport 7077 counter name answers; }
}
"""


def test_questions_are_paid_from_the_budget_and_are_as_many_as_the_wire_has(lab, key, tmp_path):
    """100 services ask one agent ten times a second each, which is ten times what the ceiling allows."""
    ceiling = 200
    services = [
        service(f"web{port}", port=port, health=UNCHECKED, weights={"web1": 1})
        + AGENTS.format(key=key).replace("0.1", f"0.1{port}")
        for port in range(100, 200)
    ]
    config = f"[gateway.probes]\nceiling = {ceiling}\nenabled = false\n" + "".join(services)
    with (
        agent(lab, "web1", key, tmp_path / "state"),
        nft_table(lab, "web1", ON_THE_WIRE),
        lab.daemon(config) as daemon,
    ):

        def shown():
            return daemon.api.get("status")["probes"]

        def counted():
            listed = json.loads(lab.exec("web1", "nft", "-j", "list", "counters").stdout)["nftables"]
            return sum(item["counter"]["packets"] for item in listed if "counter" in item)

        wait_for("the first answers", lambda: shown()["agents"]["answered"] > 0)
        began, before = time.monotonic(), counted()
        wait_for("three seconds' worth", lambda: counted() - before > 3 * ceiling)
        # Half a second's are let be: an agent that did not get its turn answers all that waits at once.
        assert counted() - before <= ceiling * (time.monotonic() - began + 0.5) + 24
        first, wire, last = shown()["packets"], counted(), shown()["packets"]
        # What is under way was one packet or two, and is counted when it is over.
        assert first <= wire <= last + 2 * ceiling * 0.1
        assert shown()["limits"]["floor"] == ceiling
        (warning,) = daemon.api.get("status")["warnings"]
        assert "allows 200 for them and the probes: they are asked less often" in warning
