import pytest

from benchmark.alone.ebpf import Alone, Case, Memory
from benchmark.endurance.endured import Endured
from benchmark.report.measured import of_endurance, of_programs


def alone(round: int, ns: float, datapath: str = "xdp", memory: Memory | None = None, **case: int) -> Alone:
    return Alone(round, datapath, Case(**{"flows": 1_000, **case}), ns, 10.0, 40.0, memory)


def test_growth_is_taken_within_a_round():
    # The machine was three times slower in round 2.
    rows = [
        *(alone(1, 100.0), alone(1, 110.0, backends=1_000), alone(1, 200.0, flows=1_000_000)),
        *(alone(2, 300.0), alone(2, 330.0, backends=1_000), alone(2, 600.0, flows=1_000_000)),
    ]
    figures = of_programs(rows)
    assert figures["xdp_ns"] == 200.0
    assert figures["xdp_backends_growth"] == pytest.approx(1.1)
    assert figures["xdp_flows_growth"] == pytest.approx(2.0)
    assert "xdp_services_growth" not in figures


def test_times_are_those_of_xdp():
    assert of_programs([alone(1, 100.0, datapath="tc")]) == {}


def test_memory_is_by_the_worse_count_with_the_table_at_the_most_connections():
    rows = [
        alone(1, 100.0, memory=Memory(maps=500.0, slab=500.0, table=0.0, at_rest=9), flows=100_000),
        alone(1, 100.0, memory=Memory(maps=120.0, slab=130.0, table=16.0, at_rest=9), flows=1_000_000),
    ]
    assert of_programs(rows)["connection_bytes"] == 146.0


def endured(what: str, lost: int, before: float = 4e9, during: float = 4e9) -> Endured:
    return Endured("tc", what, 1_000, lost, 0, (), before, during)


def test_every_lost_connection_of_every_round_counts():
    rows = [endured("flood", 1), endured("flood", 2), endured("restart", 0)]
    figures = of_endurance(rows)
    assert (figures["flood_lost"], figures["restart_lost"]) == (3, 0)


def test_throughput_under_the_flood_is_the_median_of_the_rounds_ratios():
    rows = [endured("flood", 0, 4e9, 1e9), endured("flood", 0, 1e9, 0.9e9), endured("flood", 0, 2e9, 1.2e9)]
    assert of_endurance(rows)["flood_throughput"] == pytest.approx(0.6)
    assert "flood_throughput" not in of_endurance([endured("restart", 0)])
