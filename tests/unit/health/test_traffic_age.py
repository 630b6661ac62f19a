"""What the datapath's counters say of when a backend was last measured."""

from math import inf

import pytest

from l4lb.health.probes.result import ProbeKind
from l4lb.health.traffic_age import TrafficAge
from l4lb.model import Endpoint, Times, Traffic

A = Endpoint.parse("10.2.0.11:80")
SYN, HTTP = ProbeKind.SYN, ProbeKind.HTTP


def traffic(handshakes, responses):
    return {("web", A): Traffic(handshakes=Times(handshakes), responses=Times(responses))}


def ages(kind, *counts):
    """A backend's age at each of these looks, a second apart; counts are (handshakes, responses)."""
    seen, found = TrafficAge(), []
    for now, (handshakes, responses) in enumerate(counts):
        seen.note(traffic(handshakes, responses), float(now))
        found.append(seen.age("web", A, kind, float(now)))
    return found


@pytest.mark.parametrize(
    ("kind", "counts", "expected"),
    [
        pytest.param(SYN, [(5, 9), (6, 9), (6, 9), (6, 9)], [inf, 0, 1, 2], id="a handshake"),
        pytest.param(HTTP, [(5, 9), (6, 9), (7, 9)], [inf, inf, inf], id="handshakes of a stalled server"),
        pytest.param(HTTP, [(5, 9), (5, 10), (5, 10)], [inf, 0, 1], id="a response"),
        pytest.param(SYN, [(5, 9), (5, 10), (5, 10)], [inf, 0, 1], id="an old connection's responses"),
        pytest.param(HTTP, [(5, 9), (0, 2), (0, 3)], [inf, inf, 0], id="a datapath that began anew"),
    ],
)
def test_age(kind, counts, expected):
    assert ages(kind, *counts) == expected


def test_who_is_not_counted_was_never_measured_and_who_is_gone_is_forgotten():
    seen = TrafficAge()
    assert seen.age("web", A, SYN, 0.0) == inf
    for now in (1, 2):
        seen.note(traffic(now, now), float(now))
    assert seen.age("web", A, SYN, 2.0) == 0.0
    assert seen.age("dns", A, SYN, 2.0) == inf
    seen.note({}, 3.0)
    assert seen.age("web", A, SYN, 3.0) == inf
