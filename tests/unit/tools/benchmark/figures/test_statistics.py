import pytest

from benchmark.figures.metrics import Measurement
from benchmark.figures.statistics import by_round, compared, errors, ratios, rotated, spread, summary


def measured(round: int, peer: str, **values: float) -> Measurement:
    return Measurement(round, peer, "keepalive", values, {}, None, 0.0)


def test_a_spread_is_the_median_between_the_extremes():
    it = spread([3.0, 1.0, 10.0, 2.0])
    assert (it.low, it.median, it.high) == (1.0, 2.5, 10.0)
    assert it.values == (3.0, 1.0, 10.0, 2.0)


def test_no_values_have_no_spread():
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_every_peer_begins_a_round_and_follows_the_same_neighbours():
    names = ["a", "b", "c"]
    rounds = [rotated(names, number) for number in range(4)]
    assert rounds == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert rotated([], 3) == []


def test_ratios_are_taken_within_a_round():
    # The machine was twice as fast in round 2: each ratio is 2 all the same, that of the medians is not.
    ours, theirs = {1: 20.0, 2: 40.0, 3: 20.0}, {1: 10.0, 2: 20.0, 4: 5.0}
    assert ratios(ours, theirs) == [2.0, 2.0]


def test_a_round_in_which_they_got_nothing_has_no_ratio():
    assert ratios({1: 1.0, 2: 3.0}, {1: 0.0, 2: 2.0}) == [1.5]


def test_a_failed_load_leaves_its_round_out():
    rows = [measured(1, "l4lb", keepalive=1.0), measured(2, "l4lb"), measured(3, "l4lb", keepalive=3.0)]
    assert by_round(rows, "l4lb", "keepalive") == {1: 1.0, 3: 3.0}


def test_the_summary_has_only_what_was_measured():
    rows = [
        measured(1, "l4lb", keepalive=10.0, keepalive_p50=2.0),
        measured(1, "haproxy", keepalive=40.0),
        measured(2, "haproxy", keepalive=20.0),
        measured(1, "nginx"),
    ]
    table = summary(rows)
    assert {metric: set(row) for metric, row in table.items()} == {
        "keepalive": {"l4lb", "haproxy"},
        "keepalive_p50": {"l4lb"},
    }
    assert table["keepalive"]["haproxy"].median == 30.0


def test_we_are_compared_with_every_other_peer():
    rows = []
    for number, pace in enumerate((1.0, 2.0, 8.0), 1):
        rows += [
            measured(number, "l4lb", keepalive=3.0 * pace),
            measured(number, "haproxy", keepalive=4.0 * pace),
            measured(number, "nftables", keepalive=6.0 * pace),
        ]
    table = compared(rows, "l4lb")
    assert {peer: it.median for peer, it in table["keepalive"].items()} == {
        "haproxy": 0.75,
        "nftables": 0.5,
    }


def test_nothing_to_compare_with_is_no_ratio():
    assert compared([measured(1, "l4lb", keepalive=3.0)], "l4lb") == {}


def test_errors_are_added_up_by_peer_load_and_kind():
    rows = [
        Measurement(number, "nginx", "connections", {}, {"wrk: timeout": 2}, None, 0.0) for number in (1, 2)
    ]
    assert errors([*rows, measured(1, "l4lb", keepalive=1.0)]) == {"nginx, connections: wrk: timeout": 4}
