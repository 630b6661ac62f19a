from pathlib import Path

import pytest

from benchmark import BenchError
from benchmark.lab.hosts import Hosts


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    """Hosts that are this machine."""
    return Hosts(lambda host, *argv: list(argv), "", tmp_path, "192.0.2.1", ["192.0.2.2"], servers=False)


def test_a_server_that_ends_is_named_as_it_is_asked_for_and_not_by_what_starts_it(hosts: Hosts):
    command = ("env", "sh", "-c", "echo no such file; exit 1")
    server = hosts.server("backend", 0, *command, name="transfers")  # nobody listens on port 0
    with pytest.raises(BenchError, match=r"^transfers ended: no such file$"), server:
        pass
    assert (hosts.directory / "transfers.log").read_text() == "no such file\n"


def test_a_command_that_fails_is_named_with_its_host(hosts: Hosts):
    with pytest.raises(BenchError, match=r"^'sh -c echo no >&2; exit 1' on client: no$"):
        hosts.must("client", "sh", "-c", "echo no >&2; exit 1")
