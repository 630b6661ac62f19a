import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.lab.cores import CORE, EVERYWHERE, stay
from benchmark.peers.l4lb import config_text, start_again
from benchmark.peers.service import Agents, Served
from l4lb.control.config.config import parse
from netlab.daemon import DATAPATHS

_WEB = Served("web", 80, ["10.2.0.11:80", "10.2.0.12:80"], checked=8080)
_BULK = Served("bulk", 81, ["10.2.0.11:81"])


@pytest.mark.parametrize("datapath", DATAPATHS)
def test_the_config_is_one_that_l4lb_takes(datapath: str):
    text = config_text(datapath, "10.1.0.100", [_WEB, _BULK], established=2_000)
    found = parse(text, Path("l4lb.toml"))
    assert (found.gateway.datapath, found.gateway.limits.established) == (datapath, 2_000)
    web, bulk = found.services
    assert (web.name, str(web.address)) == ("web", "10.1.0.100:80")
    assert [str(backend.address) for backend in web.backends] == _WEB.backends
    assert (web.health.check, web.health.port, bulk.health.check) == ("tcp", 8080, "none")


def test_where_packets_are_counted_nobody_else_sends_any():
    alone = parse(config_text("tc", "10.1.0.100", [_BULK]), Path("l4lb.toml"))
    checked = parse(config_text("tc", "10.1.0.100", [_WEB, _BULK]), Path("l4lb.toml"))
    assert (alone.gateway.probes.enabled, checked.gateway.probes.enabled) == (False, True)


def test_a_service_has_the_scheduler_that_is_asked_for():
    web = Served("web", 80, ["10.2.0.11:80"], scheduler="maglev")
    (found,) = parse(config_text("tc", "10.1.0.100", [web]), Path("l4lb.toml")).services
    assert found.scheduler == "maglev"


def test_a_service_has_the_agents_that_are_asked_for():
    web = Served("web", 80, ["10.2.0.11:80"], agents=Agents(7077, Path("/run/key"), 0.5))
    (found,) = parse(config_text("tc", "10.1.0.100", [web]), Path("l4lb.toml")).services
    assert found.agent is not None
    assert (found.agent.port, found.agent.key, found.agent.interval) == (7077, "/run/key", 0.5)


@pytest.mark.skipif(len(EVERYWHERE) < 2, reason="this machine has one core")
def test_one_that_is_started_again_is_as_free_to_go_as_at_first():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        stay(process.pid, {CORE})
        told: list[str] = []
        control: Any = SimpleNamespace(
            pid=process.pid, start=lambda: told.append("start"), wait_up=lambda: told.append("wait_up")
        )
        start_again(control)
        assert (told, os.sched_getaffinity(process.pid)) == (["start", "wait_up"], EVERYWHERE)
        process.kill()
