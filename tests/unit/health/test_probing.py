"""Need and budget together: which probe is sent, and what is kept of it."""

from dataclasses import replace
from math import inf
from random import Random

import pytest

from l4lb.health.budget import Budget
from l4lb.health.probes.result import Outcome, ProbeKind, ProbeResult
from l4lb.health.probing import MAX_AT_ONCE, LastProbe, Probing
from l4lb.health.rise_fall import Health, HealthState
from l4lb.health.traffic_age import TrafficAge
from l4lb.model import (
    Backend,
    Counters,
    Endpoint,
    HealthCheck,
    Probes,
    Protocol,
    Service,
    Times,
    Traffic,
    Verdict,
)

A, B = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("10.2.0.12:80")
WEB = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(A),))
HTTP = HealthCheck("http", port=8080, path="/healthz")
LIMITS = Probes()
UP = Health(HealthState.UP, -1e6)
ANSWERED = ProbeResult(Outcome.ANSWERED, 0.001, 3)


class World:
    """A gateway without traffic."""

    def __init__(self, *services, limits=LIMITS, shunned=()):
        self.probing = Probing(
            Budget(limits, 0.0),
            random=Random(1),
            freshness=TrafficAge(),
            shunned=lambda service, backend: backend in shunned,
        )
        self.limits, self.services = limits, services
        self.health = {}
        self.traffic = {}
        self.forwarded = 0
        self.probing.update(services, 0.0, enabled=limits.enabled)

    def look(self, now):
        counters = Counters(dict(self.traffic), {Verdict.FORWARD: self.forwarded}, {})
        self.probing.look(counters, lambda *backend: self.health.get(backend[1], UP), now)

    def sent(self, seconds, result=ANSWERED, begin=0.0):
        """The probes of so many seconds."""
        probes = []
        for step in range(round(seconds * 10)):
            now = begin + step / 10
            if step % 10 == 0:
                self.look(now)
            while (probe := self.probing.next(now)) is not None:
                probes.append(probe)
                if result is not None:
                    self.probing.finish(probe, result, now)
        return probes


def test_a_tcp_service_is_asked_by_syn_whatever_its_check():
    for check in ("tcp", "none"):
        probe = World(replace(WEB, health=HealthCheck(check, timeout=0.7))).sent(20)[0]
        assert (probe.kind, probe.target, probe.check.timeout) == (ProbeKind.SYN, A, 0.7)


def test_an_http_service_is_asked_what_its_check_asks():
    probe = World(replace(WEB, health=HTTP)).sent(30)[0]
    assert (probe.backend, probe.kind) == (("web", A), ProbeKind.HTTP)
    assert (probe.target, probe.check) == (Endpoint(A.ip, 8080), HTTP)


@pytest.mark.parametrize(
    "service",
    [
        pytest.param(replace(WEB, protocol=Protocol.UDP), id="UDP"),
        pytest.param(replace(WEB, backends=(Backend(A, 0),)), id="drained"),
        pytest.param(replace(WEB, backends=()), id="without backends"),
    ],
)
def test_who_gets_no_new_connections_or_has_no_question_is_not_probed(service):
    world = World(service)
    assert world.sent(100) == []
    assert world.probing.wait(100.0) == inf


def test_probes_can_be_switched_off_and_on():
    world = World(WEB, limits=replace(LIMITS, enabled=False))
    assert world.sent(30) == []
    world.probing.update(world.services, 30.0, enabled=True)
    assert world.sent(30, begin=30.0)
    world.probing.update(world.services, 60.0, enabled=False)
    assert world.sent(30, begin=60.0) == []


def test_a_backend_that_is_down_is_left_to_its_checks_until_it_is_up():
    world = World(WEB)
    world.health[A] = Health(HealthState.DOWN, 0.0)
    assert world.sent(60) == []
    world.health[A] = Health(HealthState.UP, 60.0)
    assert world.sent(2, begin=60.0)


def test_a_backend_that_traffic_measures_is_not_probed():
    world = World(WEB)
    probes = []
    for second in range(100):
        world.traffic["web", A] = Traffic(handshakes=Times(second))
        probes += world.sent(1, begin=float(second))
    assert probes == []
    assert world.sent(10, begin=100.0), "when it has gone quiet"


def test_a_shunned_backend_goes_first():
    service = replace(WEB, backends=tuple(Backend(Endpoint(A.ip, port)) for port in range(1, 101)))
    shunned = service.backends[70].address
    probes = World(service, shunned={shunned}).sent(120)
    assert len(probes) == 39
    asked = [probe.target for probe in probes]
    assert asked.count(shunned) > 3
    assert max(asked.count(one.address) for one in service.backends if one.address != shunned) == 1


def test_a_probe_under_way_is_not_joined_by_another_one():
    world = World(WEB, limits=replace(LIMITS, floor=100.0))
    (probe,) = world.sent(60, result=None)
    world.probing.finish(probe, ANSWERED, 60.0)
    assert world.sent(15, begin=60.0)


def test_no_more_are_under_way_than_there_are_descriptors():
    backends = tuple(Backend(Endpoint(A.ip, port)) for port in range(1, 2 * MAX_AT_ONCE))
    world = World(replace(WEB, backends=backends), limits=Probes(floor=1000.0, burst=10_000.0))
    assert len(world.sent(30, result=None)) == MAX_AT_ONCE


def test_what_a_probe_caused_beyond_its_cost_is_paid_by_the_next():
    heavy = replace(ANSWERED, packets=30)
    assert len(World(WEB, replace(WEB, name="b")).sent(60)) > 8
    assert len(World(WEB, replace(WEB, name="b")).sent(60, result=heavy)) == 2


def test_results_are_counted_by_name():
    world = World(WEB)
    (first, *rest) = [outcome for outcome in Outcome if outcome is not Outcome.UNSENT]
    probe = world.sent(20)[0]
    before = world.probing.report(20.0)
    for outcome in (first, *rest):
        world.probing.finish(probe, ProbeResult(outcome, packets=2), 20.0)
    world.probing.finish(probe, ProbeResult(Outcome.UNSENT), 20.0)
    after = world.probing.report(20.0)
    assert after.sent - before.sent == len(rest) + 1
    assert after.packets - before.packets == 2 * (len(rest) + 1)
    assert [getattr(after, outcome.value) - getattr(before, outcome.value) for outcome in Outcome] == [
        1
    ] * 5


def test_forwarded_packets_are_counted_from_the_first_look_on_and_across_restarts_of_the_datapath():
    world = World()
    for now, forwarded in enumerate((1_000, 1_500, 200, 300)):
        world.forwarded = forwarded
        world.look(float(now))
    assert world.probing.report(4.0).forwarded_packets == 500 + 200 + 100


def test_the_last_result_of_a_backend_is_kept_until_it_is_gone():
    world = World(WEB)
    assert world.probing.last("web", A) is None
    probe = world.sent(20)[0]
    world.probing.finish(probe, ANSWERED, 33.0)
    assert world.probing.last("web", A) == LastProbe(ProbeKind.SYN, ANSWERED, 33.0)
    world.probing.update([replace(WEB, backends=(Backend(B),))], 40.0, enabled=True)
    assert world.probing.last("web", A) is None
    world.probing.finish(probe, ANSWERED, 41.0)
    assert world.probing.last("web", A) is None, "a probe that was under way"
    assert {probe.target for probe in world.sent(20, begin=40.0)} == {B}


def test_the_wait_is_for_the_turn_or_for_the_budget():
    world = World(WEB, limits=replace(LIMITS, floor=0.5))
    world.look(0.0)
    due = world.probing.wait(0.0)
    assert 0 < due <= 10.0
    assert world.probing.next(due - 0.001) is None
    assert due < 6.0, "when the budget has three packets"
    assert world.probing.wait(due) == pytest.approx(6.0 - due)
    assert world.probing.next(6.0) is not None
