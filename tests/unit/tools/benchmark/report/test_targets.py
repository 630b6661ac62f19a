import pytest

from benchmark.alone.table_size import TableSize
from benchmark.figures.statistics import Spread, spread
from benchmark.figures.target import Target
from benchmark.report.results import Results
from benchmark.report.targets import targets


@pytest.mark.parametrize(
    ("bound", "below", "equal", "above"),
    [
        ("at least", False, True, True),
        ("at most", True, True, False),
        ("under", True, False, False),
        ("above", False, False, True),
    ],
)
def test_a_bound_says_on_which_side_it_is_kept(bound: str, below: bool, equal: bool, above: bool):
    found = [Target("it", bound, 2.0, "", value).reached for value in (1.0, 2.0, 3.0)]
    assert found == [below, equal, above]


def test_what_was_not_measured_is_neither_reached_nor_missed():
    assert {target.reached for target in targets({}, {})} == {None}


def test_ratio_targets_are_of_one_datapath_to_one_peer_and_take_the_median():
    row: dict[str, Spread] = {"haproxy": spread([0.3, 0.5, 9.0]), "nftables": spread([7.0])}
    (target,) = (it for it in targets({"raw": {"keepalive": row}}, {}) if it.value is not None)
    assert (target.value, target.limit, target.reached) == (0.5, 0.4, True)
    (target,) = (it for it in targets({"tc": {"keepalive": row}}, {}) if it.value is not None)
    assert (target.value, target.limit, target.reached) == (7.0, 1.2, True)


def test_a_peer_that_was_not_there_leaves_its_target_open():
    row: dict[str, Spread] = {"redirect": spread([0.9])}
    found = [it.title for it in targets({"xdp": {"small_packets": row}}, {}) if it.value is not None]
    assert found == ["small packets on one core, xdp / redirect"]


def size(connections: int, fast: float, busy: float, lookup: float, round: int = 1) -> TableSize:
    return TableSize(round, connections, 470.0, 27.0, fast, busy, lookup, 0.5, 2.0)


def test_growth_is_from_a_thousand_to_a_million_connections():
    tables = [
        size(1_000, 1_000.0, 900.0, 40.0),
        size(100_000, 9e9, 9e9, 9e9),
        size(1_000_000, 1_700.0, 990.0, 600.0),
        # Another round, of a slower moment, and one that has only one of the two.
        size(1_000, 2_000.0, 1_800.0, 80.0, 2),
        size(1_000_000, 3_400.0, 1_980.0, 1_200.0, 2),
        size(1_000_000, 9e9, 9e9, 9e9, 3),
    ]
    values = {target.title: target.value for target in Results({}, {}, sizes=tables).targets}
    assert values["1M connections, memory"] == 470.0
    grown = [value for title, value in values.items() if title.startswith("1M connections / 1k")]
    assert grown == pytest.approx([1.1, 1.7, 15.0])


def test_a_smaller_table_says_nothing_about_a_million():
    results = Results({}, {}, sizes=[size(1_000, 1.0, 1.0, 1.0), size(100_000, 1.0, 1.0, 1.0)])
    assert {target.value for target in results.targets} == {None}
