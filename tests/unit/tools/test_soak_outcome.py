from dataclasses import replace

import pytest

from soaking.clients import CLIENTS
from soaking.main import Soaked
from soaking.trouble import TROUBLES
from soaking.watch import Counts, Watch


@pytest.fixture
def well():
    done = {client.__name__: 1 for clients in CLIENTS.values() for client, _ in clients}
    return Soaked(
        done, {"asks_once": 3}, {trouble.__name__: 1 for trouble in TROUBLES}, Watch(), 1, {}, 5.0
    )


def test_nothing_to_complain_of(well):
    assert well.complaints == []


def test_what_is_left_is_named(well):
    (line,) = replace(well, left={"web 10.2.0.11:80": Counts(0, 1, 0)}).complaints
    assert line == "web 10.2.0.11:80: after all is over, Counts(half_open=0, established=1, outstanding=0)"


def test_a_fault_is_named(well):
    for _ in range(2):
        well.watch.look({"path 7": Counts(0, 0, 1)})
    (line,) = well.complaints
    assert line == "path 7: 1 outstanding of 0 established and 0 half-open connections"


def test_what_never_happened_shows_nothing(well):
    assert replace(well, done=well.done | {"gives_up": 0}).complaints == ["never happened: gives up"]
    crashes = {name: count for name, count in well.troubles.items() if name != "servers_crash"}
    assert replace(well, troubles=crashes).complaints == ["never happened: servers crash"]
