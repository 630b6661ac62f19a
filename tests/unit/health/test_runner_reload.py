"""The runner when the services change under it."""

import asyncio
from dataclasses import replace

import pytest

from l4lb.health.rise_fall import HealthState, Result
from l4lb.health.runner import HealthRunner
from l4lb.model import Endpoint, HealthCheck
from tests.unit.health.runner_bench import CHECK, PASSED, REFUSED, A, B, bench, service


def test_reload_keeps_what_is_known_and_when_it_is_due(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.result[A] = REFUSED
            b.runner.update([service(A)])
            await asyncio.sleep(10)
            before = b.runner.state("web", A)
            for _ in range(100):  # reloads much faster than the interval
                b.runner.update([service(A, B)])
                await asyncio.sleep(0.1)
            after = b.runner.state("web", A)
            assert (
                (after.state, after.since)
                == (before.state, before.since)
                == (HealthState.DOWN, before.since)
            )
            assert 9 <= len(b.backends.times(A)) <= 11, "20 s at 2 s"
            assert b.backends.cancelled == []

    run(scenario())


def test_removed_backend_is_cancelled_and_forgotten(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.takes = 100.0
            b.runner.update([service(A, B)])
            await asyncio.sleep(2.1)
            b.runner.update([service(B)])
            await asyncio.sleep(0.01)
            assert b.backends.cancelled == [A]
            assert b.backends.under_way == {A: 0, B: 1}
            with pytest.raises(KeyError):
                b.runner.state("web", A)
            assert b.changes == []

    run(scenario())


def test_result_that_comes_as_the_backend_is_removed_is_not_told(run):
    async def scenario() -> None:
        changes = []
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        begun = asyncio.Event()

        def check(target: Endpoint, check: HealthCheck) -> asyncio.Future[Result]:
            begun.set()
            return result

        runner = HealthRunner(lambda *change: changes.append(change), loop.time, check=check)
        runner.update([service(A)])
        await begun.wait()
        result.set_result(REFUSED)
        runner.update([])
        await runner.close()
        assert changes == []

    run(scenario())


def test_backend_that_comes_back_begins_anew(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.result[A] = REFUSED
            b.runner.update([service(A)])
            await asyncio.sleep(10)
            assert b.state() is HealthState.DOWN
            b.runner.update([])
            b.runner.update([service(A)])
            assert b.state() is HealthState.UNKNOWN

    run(scenario())


@pytest.mark.parametrize(
    "names", [pytest.param(("new",), id="renamed"), pytest.param(("web", "new"), id="a second service")]
)
def test_what_a_check_has_shown_is_known_of_whoever_shares_it(run, names):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.result[A] = REFUSED
            b.runner.update([service(A, B)])
            await asyncio.sleep(10)
            before = {backend: b.runner.state("web", backend) for backend in (A, B)}
            assert before[A].state is HealthState.DOWN
            patient = replace(CHECK, rise=9)
            b.runner.update([service(A, B, name=name, check=patient) for name in names])
            assert {backend: b.runner.state("new", backend) for backend in (A, B)} == before

    run(scenario())


@pytest.mark.parametrize("order", [("quick", "patient"), ("patient", "quick")])
def test_of_those_who_disagree_whether_a_backend_is_down_the_cautious_is_believed(run, order):
    checks = {"quick": replace(CHECK, fall=1), "patient": replace(CHECK, fall=9)}

    async def scenario() -> None:
        async with bench() as b:
            services = [service(A, name=name, check=checks[name]) for name in order]
            b.runner.update(services)
            await asyncio.sleep(2.1)
            b.backends.result[A] = REFUSED
            await asyncio.sleep(2.3)
            assert [b.state(A, name) for name in ("quick", "patient")] == [HealthState.DOWN, HealthState.UP]
            b.runner.update([*services, service(A, name="new")])
            assert b.state(A, "new") is HealthState.DOWN

    run(scenario())


def test_what_another_check_has_shown_does_not_make_a_new_backend_known(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.result[A] = REFUSED
            b.runner.update([service(A)])
            await asyncio.sleep(10)
            b.runner.update([service(A, name="new", check=replace(CHECK, timeout=0.5))])
            assert b.state(A, "new") is HealthState.UNKNOWN

    run(scenario())


def test_changed_check_applies_at_once_and_keeps_the_state(run):
    async def scenario() -> None:
        async with bench() as b:
            slow = replace(CHECK, interval=3600.0)
            b.runner.update([service(A, check=slow)])
            await asyncio.sleep(3600)
            assert b.state() is HealthState.UP
            checked = len(b.backends.started)
            quick = HealthCheck("http", interval=1.0, path="/live", port=8080, fall=1)
            b.runner.update([service(A, check=quick)])
            assert b.state() is HealthState.UP
            b.backends.result[replace(A, port=8080)] = REFUSED
            await asyncio.sleep(1.1)
            assert len(b.backends.started) > checked
            _, target, check = b.backends.started[-1]
            assert (target, check.check, check.path) == (replace(A, port=8080), "http", "/live")
            assert b.state() is HealthState.DOWN

    run(scenario())


def test_check_under_way_when_it_is_changed_does_not_count(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.takes = 5.0
            b.backends.result[A] = REFUSED
            b.runner.update([service(A)])
            await asyncio.sleep(2.1)
            b.backends.result[A] = PASSED
            b.backends.takes = 0.01
            b.runner.update([service(A, check=replace(CHECK, timeout=0.5))])
            await asyncio.sleep(10)
            assert b.backends.cancelled == [A]
            assert [state for _, _, state, _ in b.changes] == [HealthState.UP]

    run(scenario())


def test_streak_of_another_check_does_not_count(run):
    async def scenario() -> None:
        async with bench() as b:
            b.runner.update([service(A)])
            await asyncio.sleep(5)
            b.backends.result[A] = REFUSED
            while b.runner.state("web", A).streak < 2:
                await asyncio.sleep(0.1)
            b.runner.update([service(A, check=replace(CHECK, timeout=0.5))])
            assert b.runner.state("web", A).streak == 0
            assert b.state() is HealthState.UP

    run(scenario())


def test_one_that_has_never_passed_begins_anew_with_a_changed_check(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.result[A] = REFUSED
            b.runner.update([service(A)])
            await asyncio.sleep(2.1)
            assert not b.runner.state("web", A).usable
            b.runner.update([service(A, check=replace(CHECK, timeout=0.5))])
            assert b.runner.state("web", A).reason == "not checked yet"
            assert b.runner.state("web", A).usable

    run(scenario())


def test_new_rise_and_fall_count_from_the_next_result(run):
    async def scenario() -> None:
        async with bench() as b:
            b.runner.update([service(A)])
            await asyncio.sleep(5)
            b.runner.update([service(A, check=replace(CHECK, fall=1))])
            b.backends.result[A] = REFUSED
            await asyncio.sleep(2.3)
            assert b.state() is HealthState.DOWN

    run(scenario())


def test_switching_checks_off_and_on(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.result[A] = REFUSED
            b.runner.update([service(A)])
            await asyncio.sleep(10)
            assert b.state() is HealthState.DOWN
            told = list(b.changes)
            b.runner.update([service(A, check=HealthCheck("none"))])
            assert b.state() is HealthState.UP
            b.runner.update([service(A)])
            assert b.state() is HealthState.UNKNOWN
            assert b.changes == told, "update itself tells nothing"

    run(scenario())


def test_bound_holds_across_reloads_that_replace_every_check(run):
    many = [Endpoint(bytes([10, 2, 0, n]), 80) for n in range(100)]

    async def scenario() -> None:
        async with bench(max_at_once=8) as b:
            b.backends.takes = 3.0
            for round_number in range(50):
                b.runner.update([service(*many, check=replace(CHECK, timeout=1.0 + round_number))])
                await asyncio.sleep(0.7)
            assert b.backends.most_at_once == 8
            assert len(b.backends.cancelled) > 100

    run(scenario())
