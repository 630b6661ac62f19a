"""The example web.toml, with nginx."""

import pytest

from tests.lab.clients import answers, ask, connect, wait_for
from tests.lab.example import NAMES, balanced, example, wait_state
from tests.lab.services import VIP

pytestmark = [pytest.mark.lab, pytest.mark.datapath("auto", "raw")]


@pytest.fixture
def daemon(lab):
    lab.publish("healthz", 1)
    with balanced(lab, example("web"), "web") as daemon:
        yield daemon


def wait_served_by(lab, names):
    """Until all of them have answered, and nobody else: one that was slow once gets none for seconds."""
    heard = set()

    def all_heard():
        heard.add(ask(lab, VIP))
        assert heard <= set(names)
        return heard == set(names)

    wait_for(f"{', '.join(names)} to answer", all_heard, 30.0)


def test_a_server_that_stops_serving_leaves_and_returns(lab, daemon):
    wait_served_by(lab, NAMES)
    lab.stop("web2")
    try:
        wait_state(daemon, "web2", "down", "web")
        wait_served_by(lab, ("web1", "web3"))
        assert "web2" not in answers(lab, VIP, 30)
    finally:
        lab.start("web2")
    wait_served_by(lab, NAMES)


def test_a_page_that_is_not_200_takes_a_server_out(lab, daemon):
    (lab.www / "healthz").unlink()
    for name in NAMES:
        wait_state(daemon, name, "down", "web")
    assert "HTTP 404, expected 200" in daemon.cli("backend", "list").stdout
    # Refused at once, as the file says.
    with pytest.raises(ConnectionRefusedError):
        connect(lab, VIP)
