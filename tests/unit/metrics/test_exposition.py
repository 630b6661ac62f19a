"""The metrics, read back by prometheus-client's own parser."""

import math
import re
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from l4lb.health.agents.runner import QuestionCounters
from l4lb.health.probing import ProbeCounters
from l4lb.metrics.exposition import families
from l4lb.metrics.snapshot import BackendSnapshot, Choice, Snapshot, choices_of
from l4lb.model import (
    BackendPlan,
    Costs,
    Counters,
    DropReason,
    Endpoint,
    Key,
    Limits,
    Protocol,
    Service,
    ServicePlan,
    Table,
    Traffic,
    Verdict,
)
from l4lb.times import Stopwatch

ONE, TWO = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("[2001:db8::12]:80")
WEB = Service("web", Endpoint.parse("10.1.0.100:80"), scheduler="adaptive")


def timed(*seconds):
    watch = Stopwatch()
    for each in seconds:
        watch.took(each)
    return watch.read()


TRAFFIC = Traffic(
    7, 1, 3, 10, 20, 1_000, 2_000, 2, 0.5, 4, 5, 6, timed(0.0001, 0.001), timed(0.02, 0.02, 3.0, 100.0), 3
)
SNAPSHOT = Snapshot(
    "0.1.0",
    "tc",
    1_700_000_000.0,
    True,
    [
        (
            WEB,
            [
                BackendSnapshot(ONE, 2, True, Choice(1.5, hot=True), TRAFFIC),
                BackendSnapshot(TWO, 0, False, None),
            ],
        )
    ],
    Counters({}, {Verdict.FORWARD: 30, Verdict.DROP: 2}, {DropReason.NO_ROUTE: 2}, 11, 22, 5),
    Limits(half_open=100, established=200),
    ProbeCounters(
        answered=1, refused=2, wrong=3, lost=4, unsent=5, late=6, forged=7, withheld=8, packets=9
    ),
    QuestionCounters(asked=10, answered=8, withheld=1, packets=18),
    (30, 120),
    2,
    {"late": 3},
)


def written(snapshot=SNAPSHOT):
    class Once(Collector):
        def collect(self):
            yield from families(snapshot)

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry).decode()


@pytest.fixture(scope="module")
def read():
    return {family.name: family for family in text_string_to_metric_families(written())}


def value(read, name, **labels):
    family = read.get(name.removesuffix("_total")) or read[re.sub("_(bucket|sum|count)$", "", name)]
    (found,) = (
        sample.value for sample in family.samples if sample.name == name and sample.labels == labels
    )
    return found


def test_the_gateway(read):
    assert value(read, "l4lb_info", version="0.1.0", datapath="tc") == 1
    assert value(read, "l4lb_start_time_seconds") == 1.7e9
    assert value(read, "l4lb_datapath_up") == 1
    assert value(read, "l4lb_warnings") == 2
    assert value(read, "l4lb_packets_total", verdict="forward") == 30
    assert value(read, "l4lb_packets_total", verdict="reply") == 0
    assert value(read, "l4lb_dropped_packets_total", reason="no_route") == 2
    assert value(read, "l4lb_connections", table="established") == 22
    assert value(read, "l4lb_connections", table="over") == 5
    assert value(read, "l4lb_connections_limit", table="established") == 200
    assert value(read, "l4lb_connections_limit", table="half_open") == 100


@pytest.mark.parametrize("reason", DropReason)
def test_every_reason_is_there_from_the_start(read, reason):
    expected = SNAPSHOT.counters.drops.get(reason, 0)
    assert value(read, "l4lb_dropped_packets_total", reason=reason.label) == expected


def test_without_a_datapath_there_is_a_gap_and_no_zero():
    """A counter that fell to 0 and came back would be taken for one that began anew."""
    counts = {"l4lb_packets", "l4lb_dropped_packets", "l4lb_connections", "l4lb_connections_limit"}
    counted = re.compile("l4lb_backend_(?!up|weight|cost|hot)")
    all_of_them = {family.name for family in families(SNAPSHOT)}
    left = {family.name for family in families(replace(SNAPSHOT, running=False))}
    assert all_of_them - left == counts | set(filter(counted.match, all_of_them))
    assert "l4lb_datapath_up" in left


def test_what_asking_costs(read):
    assert value(read, "l4lb_probes_total", outcome="lost") == 4
    assert value(read, "l4lb_probe_answers_ignored_total", reason="forged") == 7
    assert value(read, "l4lb_agent_questions_total", outcome="unanswered") == 2
    assert value(read, "l4lb_agent_packets_refused_total", reason="late") == 3
    assert value(read, "l4lb_probes_withheld_total", kind="probe") == 8
    for kind, packets in (("probe", 9), ("agent", 18), ("check", 120)):
        assert value(read, "l4lb_probe_packets_total", kind=kind) == packets
    assert value(read, "l4lb_health_checks_total") == 30


def test_a_service(read):
    labels = {"address": "10.1.0.100:80", "protocol": "tcp", "nat": "destination", "affinity": "none"}
    assert value(read, "l4lb_service_info", service="web", scheduler="adaptive", **labels) == 1
    assert value(read, "l4lb_service_backends_usable", service="web") == 1


def test_its_backends(read):
    one, two = ({"service": "web", "backend": str(backend)} for backend in (ONE, TWO))
    assert (value(read, "l4lb_backend_up", **one), value(read, "l4lb_backend_up", **two)) == (1, 0)
    assert (value(read, "l4lb_backend_weight", **one), value(read, "l4lb_backend_weight", **two)) == (2, 0)
    assert (value(read, "l4lb_backend_cost", **one), value(read, "l4lb_backend_hot", **one)) == (1.5, 1)
    assert len(read["l4lb_backend_cost"].samples) == 1, "by a table nothing costs"
    assert value(read, "l4lb_backend_connections", state="half_open", **one) == 1
    assert value(read, "l4lb_backend_outstanding_requests", **one) == 2
    assert value(read, "l4lb_backend_outstanding_wait_seconds", **one) == 0.5
    for name, count in (
        ("connections_opened", 7),
        ("connections_confirmed", 3),
        ("resets", 4),
        ("syn_retransmissions", 5),
        ("unanswered_connections", 6),
    ):
        assert value(read, f"l4lb_backend_{name}_total", **one) == count
        assert value(read, f"l4lb_backend_{name}_total", **two) == 0
    assert value(read, "l4lb_backend_bytes_total", direction="out", **one) == 2_000
    assert value(read, "l4lb_backend_packets_total", direction="in", **one) == 10


def test_histograms_are_cumulative_and_end_with_all(read):
    family = read["l4lb_backend_response_seconds"]
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in family.samples
        if sample.name.endswith("_bucket") and sample.labels["backend"] == str(ONE)
    ]
    assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
    below = dict(buckets)
    assert below[math.inf] == 4
    assert [count for bound, count in buckets if bound < 0.02] == [0] * 8
    assert next(count for bound, count in buckets if bound > 0.02) == 2
    assert next(count for bound, count in buckets if bound > 3.0) == 3
    labels = {"service": "web", "backend": str(ONE)}
    assert value(read, "l4lb_backend_response_seconds_count", **labels) == 4
    assert value(read, "l4lb_backend_response_seconds_sum", **labels) == pytest.approx(103.04)


def test_one_that_is_counted_while_the_others_are_read_does_not_break_a_histogram():
    ahead = replace(TRAFFIC, responses=replace(TRAFFIC.responses, count=3))
    read = {
        (sample.labels["le"], sample.value)
        for family in families(
            replace(SNAPSHOT, services=[(WEB, [BackendSnapshot(ONE, 2, True, None, ahead)])])
        )
        if family.name == "l4lb_backend_response_seconds"
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    assert max(count for _, count in read) == 4
    assert ("+Inf", 4) in read


def test_names_follow_the_conventions(read):
    """https://prometheus.io/docs/practices/naming: a prefix, base units, _total for counters."""
    for family in read.values():
        assert re.fullmatch("l4lb_[a-z0-9_]+", family.name)
        assert family.documentation.endswith(".")
        assert not re.search("_(ms|milliseconds|kb|kilobytes|percent)$", family.name)
        if family.type == "counter":
            assert all(re.search("_(total|created)$", sample.name) for sample in family.samples)
        else:
            assert not family.name.endswith("_total")


def test_what_a_config_calls_a_service_cannot_break_a_line():
    odd = Service('a"b\\c', Endpoint.parse("10.1.0.100:80"))
    text = written(replace(SNAPSHOT, services=[(odd, [])]))
    (family,) = (each for each in text_string_to_metric_families(text) if each.name == "l4lb_service_info")
    assert family.samples[0].labels["service"] == 'a"b\\c'


def test_how_backends_are_chosen():
    backends = (BackendPlan(ONE), BackendPlan(TWO))
    plan = ServicePlan("web", WEB.address, Protocol.TCP, Table(Key.TURN, (0, 0)), backends)
    assert choices_of(plan) == {ONE: Choice()}
    by_costs = replace(plan, selection=Costs(((0, 300), (1, 200)), hot=frozenset({0})))
    assert choices_of(by_costs) == {ONE: Choice(1.5, hot=True), TWO: Choice(1.0)}
    assert choices_of(replace(plan, selection=Costs(()))) == {}
