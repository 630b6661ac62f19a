"""What a datapath is told, from the config and what is known of the backends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from l4lb.control.config.config import GatewayConfig
from l4lb.control.reconcile import SelectionCache, plan_for
from l4lb.model import (
    Backend,
    Endpoint,
    Key,
    Limits,
    Nat,
    Plan,
    Service,
    Table,
    Timeouts,
    WhenAllDown,
    WhenBackendDown,
)
from l4lb.schedulers import Candidate

A, B, C = (Endpoint.parse(f"10.2.0.1{n}:80") for n in (1, 2, 3))
WEB = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(A), Backend(B, 2), Backend(C)))
USE_ALL = replace(WEB, when_all_down=WhenAllDown.USE_ALL)


def plan(service, *, down=(), doubted=(), sources=None, gateway=None, avoided=()):
    return plan_for(
        [service],
        gateway or GatewayConfig(),
        unusable={(service.name, backend) for backend in (*down, *doubted)},
        down={(service.name, backend) for backend in down},
        sources=sources or {},
        cache=SelectionCache(),
        avoided=avoided,
    )


def weights(service, *backends):
    return replace(service, backends=tuple(Backend(a, w) for a, w in zip((A, B, C), backends, strict=True)))


@pytest.mark.parametrize(
    ("service", "down", "chosen", "alive"),
    [
        pytest.param(WEB, [], {A, B, C}, {A, B, C}, id="all are well"),
        pytest.param(WEB, [B], {A, C}, {A, C}, id="a backend is down"),
        pytest.param(WEB, [A, B, C], set(), set(), id="all down: refused"),
        pytest.param(USE_ALL, [A, B, C], {A, B, C}, {A, B, C}, id="all down: all used, and alive"),
        pytest.param(USE_ALL, [A, B], {C}, {C}, id="use_all is for when all are down"),
        pytest.param(weights(WEB, 1, 0, 1), [], {A, C}, {A, B, C}, id="a drained backend lives on"),
        pytest.param(weights(WEB, 1, 0, 1), [A, C], set(), {B}, id="only a drained one is up: refused"),
        pytest.param(
            weights(USE_ALL, 1, 0, 1), [A, C], {A, C}, {A, B, C}, id="only a drained one is up: the others"
        ),
        pytest.param(
            weights(USE_ALL, 1, 0, 1), [A, B, C], {A, C}, {A, C}, id="use_all does not raise the drained"
        ),
        pytest.param(weights(USE_ALL, 0, 0, 0), [], set(), {A, B, C}, id="all drained: refused"),
        pytest.param(replace(WEB, backends=()), [], set(), set(), id="no backends: refused"),
    ],
)
def test_who_is_chosen_from_and_who_is_alive(service, down, chosen, alive):
    (result,) = plan(service, down=down).services
    assert isinstance(result.selection, Table)
    assert {result.backends[slot].address for slot in result.selection.slots} == chosen
    assert {backend.address for backend in result.backends if backend.alive} == alive
    assert [backend.address for backend in result.backends] == [b.address for b in service.backends]


@pytest.mark.parametrize(
    ("service", "down", "doubted", "chosen", "alive"),
    [
        pytest.param(WEB, [], [A], {B, C}, {A, B, C}, id="its connections go on"),
        pytest.param(WEB, [], [A, B, C], set(), {A, B, C}, id="all: new ones are refused"),
        pytest.param(WEB, [A], [B, C], set(), {B, C}, id="and those of one that is down end"),
        pytest.param(USE_ALL, [A], [B], {C}, {B, C}, id="use_all: one is well"),
        pytest.param(USE_ALL, [A], [B, C], {A, B, C}, {A, B, C}, id="use_all: none is"),
    ],
)
def test_a_backend_that_may_be_down_gets_no_new_connections_and_keeps_its_own(
    service, down, doubted, chosen, alive
):
    (result,) = plan(service, down=down, doubted=doubted).services
    assert {result.backends[slot].address for slot in result.selection.slots} == chosen
    assert {backend.address for backend in result.backends if backend.alive} == alive


def test_a_backend_is_down_for_the_service_whose_check_failed_only():
    other = replace(WEB, name="other", address=Endpoint.parse("10.1.0.100:81"))
    down = {("other", A)}
    first, second = plan_for(
        [WEB, other], GatewayConfig(), unusable=down, down=down, sources={}, cache=SelectionCache()
    ).services
    assert first.backends[0].alive
    assert not second.backends[0].alive


@pytest.mark.parametrize(
    ("service", "down", "avoided", "chosen"),
    [
        pytest.param(WEB, [], [A], {B, C}, id="others take them"),
        pytest.param(WEB, [], [A, B, C], {A, B, C}, id="none would"),
        pytest.param(WEB, [B, C], [A], {A}, id="the others are down"),
        pytest.param(weights(WEB, 1, 0, 0), [], [A], {A}, id="the others are drained"),
        pytest.param(USE_ALL, [A, B, C], [A, B], {C}, id="all are down and used"),
        pytest.param(WEB, [A, B, C], [A], set(), id="it does not raise one that is down"),
    ],
)
def test_those_that_are_avoided_get_connections_only_where_no_other_can(service, down, avoided, chosen):
    keys = {("web", each) for each in avoided}
    (result,) = plan(service, down=down, avoided=keys).services
    assert {result.backends[index].address for index in result.selection.chosen} == chosen
    assert {each.address for each in result.backends if each.alive} == {
        each.address for each in plan(service, down=down).services[0].backends if each.alive
    }


def test_one_is_avoided_by_the_service_whose_agent_says_so_and_where_full_nat_reaches_another():
    away = {("web", A), ("other", B)}
    (result,) = plan(replace(WEB, nat=Nat.FULL), sources={A.ip: b"\x0a\2\0\1"}, avoided=away).services
    assert result.selection.chosen == {0}


def test_weights_reach_the_scheduler():
    (result,) = plan(weights(WEB, 1, 3, 0)).services
    assert sorted(result.selection.slots) == [0, 1, 1, 1]


def test_destination_nat_needs_no_source():
    (result,) = plan(WEB, sources={A.ip: b"\x0a\2\0\1"}).services
    assert [backend.snat for backend in result.backends] == [None, None, None]


def test_full_nat_uses_the_source_towards_each_backend_and_not_those_without():
    (result,) = plan(
        replace(WEB, nat=Nat.FULL), sources={A.ip: b"\x0a\2\0\1", C.ip: b"\x0a\3\0\1"}
    ).services
    assert [backend.snat for backend in result.backends] == [b"\x0a\2\0\1", None, b"\x0a\3\0\1"]
    assert set(result.selection.slots) == {0, 2}
    assert result.backends[1].alive  # it is not known to be down: its connections are not reset


def test_what_the_datapath_needs_besides_is_passed_on():
    gateway = GatewayConfig(limits=Limits(half_open=9), timeouts=Timeouts(udp=7.0), snat_ports=(2000, 2999))
    service = replace(WEB, backends=(), when_backend_down=WhenBackendDown.KEEP)
    result = plan(service, gateway=gateway)
    assert result == Plan(result.services, gateway.timeouts, gateway.limits, (2000, 2999))
    assert result.services[0].when_backend_down is WhenBackendDown.KEEP


@pytest.mark.parametrize(("affinity", "expected"), [("none", 0.0), ("client", 60.0)])
def test_affinity_timeout_is_zero_without_affinity(affinity, expected):
    (result,) = plan(replace(WEB, affinity=affinity, affinity_timeout=60.0)).services
    assert result.affinity_timeout == expected


class CountingCompiler:
    def __init__(self):
        self.compiled = []

    def __call__(self, scheduler, candidates):
        self.compiled.append((scheduler, [candidate.address for candidate in candidates]))
        return Table(Key.TURN, tuple(candidate.index for candidate in candidates))


def test_only_a_service_that_changed_is_compiled_again():
    compiler = CountingCompiler()
    cache = SelectionCache(compiler)
    other = replace(WEB, name="other", scheduler="maglev")

    def run(services, down=()):
        return plan_for(
            services, GatewayConfig(), unusable=set(down), down=set(down), sources={}, cache=cache
        )

    first = run([WEB, other])
    again = run([WEB, other])
    assert len(compiler.compiled) == 2
    assert again.services[0].selection is first.services[0].selection
    run([WEB, other], down=[("other", B)])
    assert compiler.compiled[2:] == [("maglev", [A, C])]
    run([replace(WEB, scheduler="random"), other], down=[("other", B)])
    assert compiler.compiled[3:] == [("random", [A, B, C])]


def test_selections_of_removed_services_are_forgotten():
    compiler = CountingCompiler()
    cache = SelectionCache(compiler)
    candidates = (Candidate(0, A, 1),)
    cache.selection("web", "random", candidates)
    cache.forget_others({"other"})
    cache.selection("web", "random", candidates)
    assert len(compiler.compiled) == 2
