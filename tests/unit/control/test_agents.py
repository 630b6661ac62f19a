"""What agents say, from the question to the plan and the list of backends."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from l4lb.agent.report import Administrative, Figures, Operating, Report
from l4lb.control.reconcile import weighed
from l4lb.health.rise_fall import HealthState
from l4lb.model import Backend, Endpoint, Service
from tests.unit.control.fake_datapath import DEADLINE
from tests.unit.control.harness import CONFIG, WEB1, WEB2, Running, with_daemon

WITH_AGENTS = CONFIG.replace(
    'address = "10.1.0.100:80"',
    'address = "10.1.0.100:80"\nagent = { port = 7077, protocol = "tcp", interval = 0.1 }',
)


async def backends_where(l4lb: Running, state: str) -> list[dict[str, Any]]:
    """The backends of web, once the first one's agent has that state."""
    async with asyncio.timeout(DEADLINE):
        while True:
            backends = (await l4lb.get("/v1/backends", service="web"))["backends"]
            if backends[0]["agent"]["state"] == state:
                return backends


def test_figures_and_reasons_are_in_the_list(tmp_path):
    async def scenario(l4lb):
        l4lb.agents["10.2.0.11:7077"] = Report(Figures(cpu=0.98765, memory=0.25), weight=0.5)
        first, second = await backends_where(l4lb, "hot")
        agent = first["agent"]
        assert 0 <= agent.pop("age") < DEADLINE
        assert agent == {
            "state": "hot",
            "reason": "CPU 99%, limit 90%; 50% of its weight",
            "rtt": 0.001,
            "cpu": 0.9877,
            "memory": 0.25,
            "load": None,
            "queue": None,
            "application": None,
            "weight": 0.5,
        }
        assert second["agent"]["state"] in ("unasked", "silent")
        assert (await l4lb.get("/v1/backends", service="dns"))["backends"][0]["agent"] is None

    with_daemon(tmp_path, scenario, WITH_AGENTS)


def test_a_backend_without_an_answer_is_used_and_said_to_be_without(tmp_path):
    async def scenario(l4lb):
        first, _ = await backends_where(l4lb, "silent")
        assert first["agent"]["reason"] == "ignored: nobody there"
        assert l4lb.weights()["10.2.0.11:80"] > 0

    with_daemon(tmp_path, scenario, WITH_AGENTS)


def test_an_agent_drains_its_backend_and_takes_that_back(tmp_path, caplog):
    async def scenario(l4lb):
        def only_web2(plan) -> bool:
            return set(plan.services[0].selection.slots) == {1}

        l4lb.agents["10.2.0.11:7077"] = Report(administrative=Administrative.DRAIN)
        await l4lb.datapath.plan_where(only_web2)
        first, _ = await backends_where(l4lb, "drain")
        assert (first["weight"], first["state"]) == (1, "drain")  # the config's is as it was
        assert first["reason"] == "by its agent: drain"
        explained = await l4lb.get("/v1/explain", service="web", client="10.1.0.10:4711")
        assert explained["away"] == {"10.2.0.11:80": "by its agent: drain"}
        l4lb.agents["10.2.0.11:7077"] = Report()
        await l4lb.datapath.plan_where(lambda plan: not only_web2(plan))
        assert (await backends_where(l4lb, "ok"))[0]["state"] == "unknown"

    with caplog.at_level(logging.INFO):
        with_daemon(tmp_path, scenario, WITH_AGENTS)
    assert [line for line in caplog.messages if "by its agent" in line] == [
        "backend web 10.2.0.11:80 gets no new connections, by its agent: drain",
        "backend web 10.2.0.11:80 may have new connections, by its agent: ok",
    ]


DOWN = Report(operating=Operating.DOWN, note="disk full")


@pytest.mark.parametrize("scheduler", ["round_robin", "maglev", "adaptive"])
def test_a_backend_that_its_agent_says_is_down_gets_none_while_others_do(tmp_path, scheduler):
    def chosen(plan) -> set[int]:
        return set(plan.services[0].selection.chosen)

    async def scenario(l4lb):
        l4lb.agents["10.2.0.11:7077"] = DOWN
        await l4lb.datapath.plan_where(lambda plan: chosen(plan) == {1})
        assert l4lb.datapath.plan.services[0].backends[0].alive, "its connections stay"
        l4lb.agents["10.2.0.12:7077"] = Report(operating=Operating.STOPPED)
        await l4lb.datapath.plan_where(lambda plan: chosen(plan) == {0, 1})
        l4lb.agents["10.2.0.11:7077"] = Report()
        await l4lb.datapath.plan_where(lambda plan: chosen(plan) == {0})

    text = WITH_AGENTS.replace('name = "web"', f'name = "web"\nscheduler = "{scheduler}"')
    with_daemon(tmp_path, scenario, text)


def test_an_agents_word_does_not_override_a_failed_check(tmp_path):
    async def scenario(l4lb):
        l4lb.agents["10.2.0.11:7077"] = Report(Figures(cpu=0.0), weight=1.0)
        await backends_where(l4lb, "ok")
        l4lb.agents["10.2.0.11:7077"] = Report(administrative=Administrative.MAINT)
        await backends_where(l4lb, "maint")
        l4lb.health.become("web", "10.2.0.11:80", HealthState.DOWN, "connection refused")
        await l4lb.datapath.plan_where(lambda plan: not plan.services[0].backends[0].alive)
        first, _ = await backends_where(l4lb, "maint")
        assert (first["state"], first["reason"]) == ("down", "connection refused")
        assert l4lb.weights()["10.2.0.11:80"] == 0

    with_daemon(tmp_path, scenario, WITH_AGENTS)


def test_a_percentage_of_its_weight_that_an_agent_of_haproxy_says(tmp_path):
    async def scenario(l4lb):
        l4lb.agents["10.2.0.11:7077"] = Report(weight=0.25)
        l4lb.agents["10.2.0.12:7077"] = Report(weight=1.0)
        await l4lb.datapath.plan_where(
            lambda plan: sorted(plan.services[0].selection.slots) == [0, *[1] * 8]
        )
        first = (await backends_where(l4lb, "ok"))[0]
        assert (first["weight"], first["agent"]["reason"]) == (1, "25% of its weight")

    with_daemon(tmp_path, scenario, WITH_AGENTS)


def test_backends_are_weighed_as_they_want_and_else_stay_as_they_are():
    web = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(WEB1, 3), Backend(WEB2, 2)))
    dns = Service("dns", Endpoint.parse("10.1.0.100:53"), backends=(Backend(WEB1, 3),))
    changed, same = weighed([web, dns], {("web", WEB1): 0.0})
    assert changed.backends == (Backend(WEB1, 0), Backend(WEB2, 2))
    assert same is dns


@pytest.mark.parametrize(
    ("weights", "share", "expected"),
    [((3, 2), 0.5, (150, 200)), ((65_535, 65_535), 0.01, (655, 65_535))],
)
def test_parts_of_weights_are_made_whole_in_proportion(weights, share, expected):
    first, second = (
        Backend(address, weight) for address, weight in zip((WEB1, WEB2), weights, strict=True)
    )
    web = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(first, second))
    (changed,) = weighed([web], {("web", WEB1): share})
    assert tuple(each.weight for each in changed.backends) == expected


@pytest.mark.parametrize(("weight", "share"), [(1, 1e-6), (65_535, 0.999)])
def test_whatever_an_agent_says_weights_stay_within_what_schedulers_are_made_for(weight, share):
    web = Service(
        "web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(WEB1, weight), Backend(WEB2, 1))
    )
    (changed,) = weighed([web], {("web", WEB1): share})
    assert all(1 <= each.weight <= 65_535 for each in changed.backends)


def test_a_key_that_cannot_be_read_is_a_warning_until_it_can(tmp_path, caplog):
    key = tmp_path / "agents.key"
    line = (
        f"{key}: cannot read the key: No such file or directory: the agents of service web are not asked, "
        "and the backends of service web are not checked"
    )

    async def scenario(l4lb):
        assert (await l4lb.get("/v1/status"))["warnings"] == [line]
        key.touch(mode=0o600)
        key.write_text(32 * "0f")
        assert (await l4lb.get("/v1/status"))["warnings"] == []

    agent = f'agent = {{ port = 7077, key = "{key}" }}\nhealth.check = "agent"'
    address = 'address = "10.1.0.100:80"'
    with caplog.at_level(logging.INFO):
        with_daemon(tmp_path, scenario, CONFIG.replace(address, f"{address}\n{agent}"))
    lines = [record.getMessage() for record in caplog.records if line in record.getMessage()]
    assert lines == [line, f"no longer: {line}"]
