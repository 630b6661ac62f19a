"""Rates from two looks at counters."""

from __future__ import annotations

import pytest

from l4lb.cli.rates import Rates, measure, rates
from l4lb.model import Times
from l4lb.times import quantile
from tests.unit.cli.answers import backend, responses


def test_rates_are_what_was_added_over_the_time_it_took():
    looks = iter(
        [
            [backend(connections_total=10, bytes_in=1000, bytes_out=5000)],
            [backend(connections_total=20, bytes_in=2000, bytes_out=5000)],
        ]
    )
    times = iter([7.0, 9.0])
    waited = []

    backends, rates = measure(lambda: next(looks), 1.5, lambda: next(times), waited.append)

    assert rates == {("web", "10.2.0.11:80"): Rates(connections=5.0, bits_in=4000.0, bits_out=0.0)}
    assert backends[0]["connections_total"] == 20
    assert waited == [1.5]


def test_what_was_answered_in_between_and_how_fast():
    before = [backend(responses=responses(*[0.001] * 100))]
    now = [backend(responses=responses(*[0.001] * 100, 0.1, 0.1, 0.1, 0.5))]
    (found,) = rates(before, now, 2.0).values()
    assert (found.answers, found.responses.count) == (2.0, 4)
    assert quantile(found.responses, 0.5) == pytest.approx(0.1, rel=0.25)
    assert quantile(found.responses, 0.99) == pytest.approx(0.5, rel=0.25)
    (silent,) = rates(now, now, 2.0).values()
    assert (silent.answers, silent.responses) == (0.0, Times())


def test_a_backend_that_is_new_or_began_anew_has_no_rates():
    looks = iter([[backend(bytes_in=9)], [backend(bytes_in=8), backend("10.2.0.12:80")]])
    times = iter([0.0, 1.0])
    assert measure(lambda: next(looks), 1.0, lambda: next(times), lambda _: None)[1] == {}
    assert rates([backend()], [backend(responses=responses(0.2))], 1.0) == {}


def test_a_datapath_that_was_restarted_in_between_did_not_send_all_its_packets_since():
    """While none runs its counters are 0; those of an eBPF datapath go on where they were afterwards."""
    away = backend(counted=False, connections_total=0, bytes_in=0, bytes_out=0, responses=responses())
    assert rates([away], [backend()], 1.0) == rates([backend()], [away], 1.0) == {}
