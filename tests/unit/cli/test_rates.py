"""Rates from two looks at counters."""

from __future__ import annotations

from l4lb.cli.rates import Rates, measure
from tests.unit.cli.answers import backend


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


def test_a_backend_that_is_new_or_began_anew_has_no_rates():
    looks = iter([[backend(bytes_in=9)], [backend(bytes_in=8), backend("10.2.0.12:80")]])
    times = iter([0.0, 1.0])
    assert measure(lambda: next(looks), 1.0, lambda: next(times), lambda _: None)[1] == {}
