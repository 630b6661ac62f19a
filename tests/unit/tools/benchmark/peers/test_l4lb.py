from pathlib import Path

import pytest

from benchmark.lab.cables import backends
from benchmark.peers.l4lb import config_text
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


def test_backends_are_all_different_and_in_their_network():
    addresses = backends(1_000)
    assert (addresses[0], addresses[-1], len(set(addresses))) == ("10.5.0.1", "10.5.3.232", 1_000)
