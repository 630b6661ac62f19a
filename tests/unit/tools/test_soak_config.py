import dataclasses
from pathlib import Path

import pytest

from l4lb.control.config.config import parse
from netlab.lab import Lab
from soaking.clients import CLIENTS
from soaking.config import LONGEST_TIMEOUT, PORTS, SERVICES, config


@pytest.fixture
def parsed():
    return parse(config(Lab("l4lb-test").topology, "tc"), Path("l4lb.toml"))


def test_the_config_is_one_that_l4lb_takes(parsed):
    assert [service.name for service in parsed.services] == [service.name for service in SERVICES]
    assert all(len(service.backends) == 3 for service in parsed.services)


def test_nothing_is_remembered_for_longer_than_is_waited_for(parsed):
    assert max(dataclasses.astuple(parsed.gateway.timeouts)) == LONGEST_TIMEOUT


def test_every_sort_of_server_has_clients_and_services():
    assert set(PORTS) == set(CLIENTS) == {service.kind for service in SERVICES}
