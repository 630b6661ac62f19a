"""That the micro-benchmark times what it says: it checks each packet itself, or raises."""

import json

import pytest

from benchmark import BenchError
from benchmark.alone import micro, table_size
from benchmark.alone.frames import ACK, SYN, VIP, backends, client, gateway, segment
from benchmark.report.results import Results
from l4lb.model import Key, State, Table


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PACKETS", "_CONNECTIONS", "_SELECTIONS"):
        monkeypatch.setattr(micro, name, 20)
    monkeypatch.setattr(table_size, "_LEAST_PACKETS", 200)


def test_every_cost_is_measured_once_and_can_be_written_as_json():
    costs = [step() for step in micro.STEPS]
    assert len({cost.name for cost in costs}) == len(costs) == 13
    results = Results({}, {}, costs=costs)
    assert json.loads(json.dumps(results.as_json()))["micro"][0]["name"] == costs[0].name
    (target,) = (it for it in results.targets if it.value is not None)
    assert target.title.startswith("established path")


def test_a_packet_that_is_not_forwarded_is_no_benchmark():
    director = gateway(Table(Key.TURN, ()), backends(1))
    with pytest.raises(BenchError, match="NO_BACKEND"):
        micro.process(director, segment(client(0), VIP[4], SYN))


def test_a_million_clients_are_a_million_tuples():
    numbers = (0, 1, 49_999, 50_000, 999_999)
    assert len({client(number) for number in numbers}) == len(numbers)
    assert all(1_024 <= client(number).port <= 65_535 for number in numbers)


def test_a_table_is_filled_used_and_emptied():
    size = table_size.measure_here(300)
    assert size.connections == 300
    assert min(size.handshake_us, size.expiry_us, size.longest_tick_ms) > 0


def test_handshakes_make_established_connections_of_any_tuple():
    director = gateway(Table(Key.TURN, (0, 1)), backends(2))
    handshakes = table_size._Handshakes(director)
    syn = segment(client(7), VIP[4], SYN)
    handshakes.make(syn[table_size._TUPLE], 5.0)
    connection = director.table.tcp[segment(client(7), VIP[4], ACK)[table_size._TUPLE]]
    assert connection.state is State.ESTABLISHED
    assert connection.seen == 5.0
