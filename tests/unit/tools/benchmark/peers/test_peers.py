"""What every balancer of the benchmark is to do."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.peers.peers import our_config
from l4lb.control.config.config import parse


@pytest.mark.parametrize("servers", [True, False])
def test_no_backend_belongs_to_two_services(servers: bool):
    """Few have such, and it is more work for l4lb than for the others."""
    hosts: Any = SimpleNamespace(
        vip="10.1.0.100", backends=["10.2.0.11", "10.2.0.12", "10.2.0.13"], servers=servers
    )
    config = parse(our_config(hosts, "tc"), Path("l4lb.toml"))
    backends = [str(backend.address) for service in config.services for backend in service.backends]
    assert len(set(backends)) == len(backends) == 5
