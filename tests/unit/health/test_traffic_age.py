"""What the datapath's counters say of when a backend was last measured."""

from math import inf

from l4lb.health.traffic_age import TrafficAge
from l4lb.model import Endpoint, Traffic

A = Endpoint.parse("10.2.0.11:80")


def ages(*counts):
    """A backend's age at each of these looks, a second apart; counts are (connections, packets out)."""
    ages = TrafficAge()
    seen = []
    for now, (connections, packets) in enumerate(counts):
        ages.note({("web", A): Traffic(connections_total=connections, packets_out=packets)}, float(now))
        seen.append(ages.age("web", A, float(now)))
    return seen


def test_a_new_connection_that_is_answered_measures():
    assert ages((5, 100), (6, 103), (6, 103), (6, 103)) == [inf, 0.0, 1.0, 2.0]


def test_the_answer_may_come_a_look_later():
    assert ages((5, 100), (6, 100), (6, 100), (6, 101)) == [inf, inf, inf, 0.0]


def test_no_answer_no_measurement():
    assert ages((5, 100), (6, 100), (9, 100)) == [inf, inf, inf]


def test_packets_of_old_connections_measure_nothing():
    assert ages((5, 100), (5, 900), (5, 1800)) == [inf, inf, inf]


def test_one_connection_measures_once():
    assert ages((5, 100), (6, 101), (6, 102), (6, 103)) == [inf, 0.0, 1.0, 2.0]


def test_counters_that_begin_anew_measure_nothing_by_that():
    assert ages((5, 100), (1, 50), (1, 50), (2, 51)) == [inf, inf, inf, 0.0]


def test_who_is_not_counted_was_never_measured_and_who_is_gone_is_forgotten():
    seen = TrafficAge()
    assert seen.age("web", A, 0.0) == inf
    for now, connections in enumerate((1, 2)):
        seen.note({("web", A): Traffic(connections, packets_out=connections)}, float(now))
    assert seen.age("web", A, 1.0) == 0.0
    assert seen.age("dns", A, 1.0) == inf
    seen.note({}, 2.0)
    assert seen.age("web", A, 2.0) == inf
