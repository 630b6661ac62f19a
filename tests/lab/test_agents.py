"""Real agents on the lab's hosts: what the gateway lists, and where new connections go."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.lab.clients import answers, wait_for
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
        wait_for("web3's failure", lambda: agents(daemon)["web3"] == "silent")
        assert agents(daemon, "reason")["web3"] == "ignored: no answer within 1 s"
        assert 0 < agents(daemon, "memory")["web2"] < 1
        assert answers(lab, VIP, 6) == {"web1": 2, "web2": 2, "web3": 2}
        table = daemon.cli("backend", "list", "--interval", "0").stdout
    header, *lines = (line.split() for line in table.splitlines())
    (web3,) = (line for line in lines if f"{BACKENDS[4]['web3']}:80" in line)
    assert header[8:11] == ["CPU", "MEM", "AGENT"]
    assert web3[8:11] == ["-", "-", "silent"]


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
