"""What is shown, from two looks."""

from __future__ import annotations

import pytest

from l4lb.cli.top.figures import figures
from tests.unit.cli.answers import STATUS
from tests.unit.cli.top.overview import DNS, WEB, look, two_looks


def test_a_backend_has_what_came_since_the_look_before():
    first, second, third = two_looks().groups[0].backends
    assert (first.connections, second.connections, third.connections) == (5.0, 10.0, 0.0)
    assert [row.share for row in (first, second, third)] == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert (first.bits_in, first.bits_out) == (4000.0, 0.0)
    assert (second.bits_in, second.bits_out) == (0.0, 8000.0)
    assert (second.answers, second.waiting, second.active) == (4.0, 9, 12)
    # Not of all time, when they took longer.
    assert second.median == second.p99 == pytest.approx(0.05, rel=0.25)
    assert (first.answers, first.median, first.p99) == (0.0, None, None)


def test_a_service_has_the_totals_of_its_backends():
    web, dns = two_looks().groups
    assert (web.title, web.total.state) == ("web 10.1.0.100:80/tcp", "3/3 up")
    assert (web.total.connections, web.total.answers, web.total.waiting) == (15.0, 4.0, 12)
    assert (web.total.active, web.total.bits_in, web.total.bits_out) == (36, 4000.0, 8000.0)
    assert web.total.p99 == pytest.approx(0.05, rel=0.25)
    assert (dns.title, dns.total.state) == ("dns 10.1.0.100:53/udp", "0/1 up")


def test_states_and_reasons():
    web, dns = two_looks().groups
    assert (web.backends[0].state, web.backends[0].note, web.backends[0].since) == ("up", "", 3723.0)
    assert (dns.backends[0].state, dns.backends[0].note) == ("down", "connection refused")
    assert dns.backends[0].target == ("dns", DNS)


def test_nobody_has_a_share_of_no_connections():
    quiet = figures("gw", look(2.0), look(1.0)).groups[0]
    assert [row.share for row in quiet.backends] == [None, None, None]
    assert quiet.total.connections == 0.0


def test_without_a_look_before_and_after_counters_began_anew_nothing_is_made_up():
    anew = look(2.0, {address: {"connections_total": 3} for address in WEB}, verdicts={"forward": 0})
    for shown in (figures("gw", look(1.0)), figures("gw", anew, look(1.0))):
        web = shown.groups[0]
        for row in (web.total, *web.backends):
            assert (row.share, row.connections, row.answers, row.p99, row.bits_in) == (None,) * 5
            assert row.active > 0
    assert "- packets/s" in figures("gw", anew, look(1.0)).facts


def test_while_the_datapath_restarts_and_in_the_interval_after_nothing_is_made_up():
    away = look(
        2.0,
        {address: {"counted": False, "connections_total": 0} for address in WEB},
        datapath=STATUS["datapath"] | {"running": False},
        verdicts={},
        drops={},
    )
    for shown in (figures("gw", away, look(1.0)), figures("gw", look(3.0), away)):
        assert shown.groups[0].total.connections is None
        assert not any("/s" in fact for fact in shown.facts)


def test_facts_of_the_gateway():
    assert two_looks().facts == (
        "l4lb on gw, up for 1d2h",
        "raw",
        "1k packets/s",
        "12k bit/s",
        "13 drops/s (no backend 10, ttl exceeded 2)",
        "1200 established",
        "3 half-open",
        "probes 0.056%",
    )
    assert two_looks().warnings == ("IPv6 forwarding is off",)


def test_facts_of_the_first_look():
    assert figures("gw", look(1.0)).facts[1:4] == ("raw", "1200 established", "3 half-open")


@pytest.mark.parametrize(
    ("part", "enabled", "said"), [(None, True, "probes -"), (0.5, False, "probes off")]
)
def test_probes(part, enabled, said):
    probes = STATUS["probes"] | {"part": part, "limits": STATUS["probes"]["limits"] | {"enabled": enabled}}
    assert figures("gw", look(1.0, probes=probes)).facts[-1] == said


def test_no_drops():
    assert "0 drops/s" in figures("gw", look(2.0), look(1.0)).facts
