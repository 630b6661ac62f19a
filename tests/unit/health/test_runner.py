"""The runner: what is checked, how often, and what is told."""

import asyncio
import logging
import resource
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from l4lb.health.rise_fall import Health, HealthState
from l4lb.health.runner import Down, HealthRunner, at_once
from l4lb.model import BackendKey, Endpoint, HealthCheck
from tests.unit.health.runner_bench import (
    CHECK,
    PASSED,
    REFUSED,
    A,
    B,
    Backends,
    JumpingLoop,
    bench,
    service,
)


def test_new_backend_is_unknown_then_checked_within_an_interval(run):
    async def scenario() -> None:
        async with bench() as b:
            begun = asyncio.get_running_loop().time()
            b.backends.result[B] = REFUSED
            b.runner.update([service(A, B)])
            health = b.runner.state("web", A)
            assert (health.state, health.reason, health.usable) == (
                HealthState.UNKNOWN,
                "not checked yet",
                True,
            )
            await asyncio.sleep(2.1)
            assert sorted(b.changes) == [
                ("web", A, HealthState.UP, ""),
                ("web", B, HealthState.UNKNOWN, "connection refused"),
            ]
            assert begun < b.runner.state("web", A).since < begun + 2.1
            assert not b.runner.state("web", B).usable
            await asyncio.sleep(3 * 2.2)
            assert b.changes[2:] == [("web", B, HealthState.DOWN, "connection refused")]

    run(scenario())


def test_state_of_what_is_not_configured(run):
    async def scenario() -> None:
        async with bench() as b:
            b.runner.update([service(A)])
            for name, backend in [("web", B), ("dns", A)]:
                with pytest.raises(KeyError):
                    b.runner.state(name, backend)

    run(scenario())


def test_checks_go_on_at_the_interval_and_each_transition_is_told_once(run):
    async def scenario() -> None:
        async with bench() as b:
            b.runner.update([service(A)])
            await asyncio.sleep(100)
            times = b.backends.times(A)
            gaps = [later - earlier for earlier, later in pairwise(times)]
            assert all(1.8 <= gap <= 2.2 + 1e-3 for gap in gaps)
            assert len(set(gaps)) > 10, "no jitter"
            b.backends.result[A] = REFUSED
            await asyncio.sleep(100)
            b.backends.result[A] = PASSED
            await asyncio.sleep(100)
            assert [state for _, _, state, _ in b.changes] == [
                HealthState.UP,
                HealthState.DOWN,
                HealthState.UP,
            ]

    run(scenario())


def test_not_checked_is_up(run):
    async def scenario() -> None:
        async with bench() as b:
            b.runner.update([service(A, check=HealthCheck("none"))])
            first = b.runner.state("web", A)
            assert (first.state, first.reason) == (HealthState.UP, "not checked")
            await asyncio.sleep(10)
            b.runner.update([service(A, check=HealthCheck("none"))])
            assert b.runner.state("web", A) == first
            assert b.backends.started == []

    run(scenario())


@pytest.mark.parametrize(
    ("check", "patient"),
    [
        (CHECK, replace(CHECK, rise=5, fall=20, path="/not/for/tcp", port=80)),
        (
            replace(CHECK, check="http", path="/live"),
            replace(CHECK, check="http", path="/live", rise=5, fall=20),
        ),
    ],
)
def test_same_check_of_two_services_is_made_once_and_each_counts_for_itself(
    run, check: HealthCheck, patient: HealthCheck
):
    async def scenario() -> None:
        async with bench() as b:
            b.runner.update([service(A, name="web", check=check), service(A, name="api", check=patient)])
            await asyncio.sleep(10)
            b.backends.result[A] = REFUSED
            await asyncio.sleep(10)
            assert 9 <= len(b.backends.started) <= 11, "20 s at 2 s"
            assert b.state(A, "web") is HealthState.DOWN
            assert b.state(A, "api") is HealthState.UP
            assert b.runner.state("api", A).reason == "connection refused"

            b.runner.update([service(A, name="api", check=patient)])
            before = len(b.backends.started)
            await asyncio.sleep(2.3)
            assert len(b.backends.started) > before, "the one that stays is still checked"

    run(scenario())


@pytest.mark.parametrize(
    "other",
    [
        replace(CHECK, interval=4.0),
        replace(CHECK, timeout=0.5),
        replace(CHECK, port=81),
        replace(CHECK, check="http"),
    ],
)
def test_different_checks_are_made_apart(run, other: HealthCheck):
    run(made_apart(CHECK, other))


@pytest.mark.parametrize(
    "difference", [{"path": "/live"}, {"host": "shop.example"}, {"status": ((204, 204),)}]
)
def test_different_http_checks_are_made_apart(run, difference: dict[str, Any]):
    check = replace(CHECK, check="http")
    run(made_apart(check, replace(check, **difference)))


async def made_apart(check: HealthCheck, other: HealthCheck) -> None:
    async with bench() as b:
        b.runner.update([service(A, name="web", check=check), service(A, name="api", check=other)])
        await asyncio.sleep(4.1)
        assert len({(target, check) for _, target, check in b.backends.started}) == 2


def test_bound_holds_and_nobody_is_left_out_when_no_backend_answers(run, caplog):
    many = [Endpoint(bytes([10, 2, n // 256, n % 256]), 80) for n in range(500)]

    async def scenario() -> None:
        async with bench(max_at_once=16) as b:
            b.backends.takes = 1.0
            b.runner.update([service(*many)])
            with caplog.at_level(logging.INFO):
                await asyncio.sleep(130)
            assert b.backends.most_at_once == 16
            counts = Counter(target for _, target, _ in b.backends.started)
            # 130 s with 16 a second make 2,080 checks, four for each backend.
            assert {counts[target] for target in many} <= {4, 5}
            assert all(record.levelno == logging.WARNING for record in caplog.records)
            assert [record.message.split(":")[0] for record in caplog.records] == [
                "health checks are more than an interval late"
            ] * 3

    run(scenario())


def test_hundreds_that_are_silent_make_nobody_late(run, caplog, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4_096, 4_096))
    many = [Endpoint(bytes([10, 2, n // 256, n % 256]), 80) for n in range(600)]

    async def scenario() -> None:
        async with bench() as b:
            b.backends.takes = 1.0
            b.runner.update([service(*many)])
            await asyncio.sleep(60)
            counts = Counter(target for _, target, _ in b.backends.started)
            assert min(counts[target] for target in many) >= 27, "60 s at 2 s and a tenth"
            assert not caplog.records

    run(scenario())


@pytest.mark.parametrize(
    ("checks", "descriptors", "expected"),
    [
        (0, 4_096, 64),
        (64, 4_096, 64),
        (600, 4_096, 600),  # half of which are under way if all are silent, and as many again
        (600, 1_024, 256),
        (600, 128, 64),
    ],
)
def test_how_many_checks_may_be_under_way(monkeypatch, checks: int, descriptors: int, expected: int):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert at_once([CHECK] * checks) == expected
    assert at_once([replace(CHECK, timeout=20.0)] * 100) == max(64, min(200, descriptors // 4))


def test_broken_check_is_no_verdict_and_one_line_in_the_log(run, caplog):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.result[A] = ZeroDivisionError("a bug")
            b.runner.update([service(A, B)])
            await asyncio.sleep(20)
            health = b.runner.state("web", A)
            assert (health.state, health.reason) == (
                HealthState.UNKNOWN,
                "internal error: ZeroDivisionError('a bug')",
            )
            assert b.state(B) is HealthState.UP
            assert len(caplog.records) == 1
            assert "10.2.0.11:80" in caplog.text

    run(scenario())


def test_checks_go_on_when_the_callback_raises(run, caplog):
    async def scenario() -> None:
        backends = Backends()

        def broken(service: str, backend: Endpoint, health: Health) -> None:
            raise RuntimeError("a bug of the caller")

        runner = HealthRunner(broken, asyncio.get_running_loop().time, check=backends.check)
        runner.update([service(A, B)])
        await asyncio.sleep(10)
        assert len(backends.times(A)) >= 4
        assert len(backends.times(B)) >= 4
        assert len(caplog.records) == 2
        await runner.close()

    run(scenario())


def left_down(reason: str = "timeout", check: HealthCheck = CHECK) -> dict[BackendKey, Down]:
    """What a daemon before has left, of A and B."""

    async def scenario() -> dict[BackendKey, Down]:
        async with bench() as b:
            b.backends.result = dict.fromkeys((A, B), replace(REFUSED, reason=reason))
            b.runner.update([service(A, B, check=check)])
            await asyncio.sleep(10)
            downs = b.runner.downs()
            assert {target: down.reason for target, down in downs.items()} == {
                ("web", A): reason,
                ("web", B): reason,
            }
            return downs

    loop = JumpingLoop()
    with closing(loop):
        return loop.run_until_complete(scenario())


def test_what_was_down_before_begins_so_and_is_checked_first(run):
    downs = left_down()

    async def scenario() -> None:
        async with bench() as b:
            b.runner.begin_with({key: replace(down, since=900.0) for key, down in downs.items()})
            b.backends.result[B] = REFUSED
            slow = replace(CHECK, timeout=0.5)
            b.runner.update([service(A, B), service(A, B, name="new", check=slow)])
            for backend in (A, B):
                health = b.runner.state("web", backend)
                assert health == Health(HealthState.DOWN, 900.0, "timeout")
                assert b.state(backend, "new") is HealthState.UNKNOWN
            assert b.runner.downs().keys() == downs.keys()
            await asyncio.sleep(0.2)
            assert {A, B} <= {target for _, target, check in b.backends.started if check.timeout == 1.0}
            assert b.state(A) is HealthState.DOWN, "one of rise"
            await asyncio.sleep(2.3)
            assert (b.state(A), b.state(B)) == (HealthState.UP, HealthState.DOWN)

    run(scenario())


@pytest.mark.parametrize(
    "check", [replace(CHECK, interval=4.0), replace(CHECK, port=81), HealthCheck("none")], ids=str
)
def test_what_was_down_by_another_check_is_not_known(run, check: HealthCheck):
    downs = left_down()

    async def scenario() -> None:
        async with bench() as b:
            b.runner.begin_with(downs)
            b.runner.update([service(A, check=check)])
            assert b.runner.state("web", A).usable

    run(scenario())


def test_what_was_down_before_is_known_to_the_first_config_only(run):
    downs = left_down()

    async def scenario() -> None:
        async with bench() as b:
            b.runner.begin_with(downs)
            b.runner.update([service(B)])
            b.runner.update([service(A, B)])
            assert (b.state(A), b.state(B)) == (HealthState.UNKNOWN, HealthState.DOWN)

    run(scenario())


def test_a_clock_that_was_set_back_does_not_put_what_was_before_into_the_future(run):
    downs = left_down()

    async def scenario() -> None:
        async with bench() as b:
            b.runner.begin_with({key: replace(down, since=2000.0) for key, down in downs.items()})
            b.runner.update([service(A)])
            assert b.runner.state("web", A).since == asyncio.get_running_loop().time()

    run(scenario())


def test_close_ends_everything(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.takes = 100.0
            b.runner.update([service(A, B)])
            await asyncio.sleep(2.1)
            await b.runner.close()
            assert b.backends.under_way.total() == 0
            begun = len(b.backends.started)
            await asyncio.sleep(100)
            assert len(b.backends.started) == begun == 2

    run(scenario())


def test_real_backend_that_stops_and_comes_back():
    """One pass with real sockets and the real clock, waiting on the transitions themselves."""

    async def scenario() -> None:
        changes: asyncio.Queue[Health] = asyncio.Queue()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        runner = HealthRunner(lambda service, backend, health: changes.put_nowait(health))
        check = replace(CHECK, interval=0.02, rise=2, fall=2)
        async with asyncio.timeout(20):
            runner.update([service(Endpoint.parse(f"127.0.0.1:{port}"), check=check)])
            assert (await changes.get()).state is HealthState.UP
            server.close()
            await server.wait_closed()
            down = await changes.get()
            assert (down.state, down.reason) == (HealthState.DOWN, "connection refused")
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
            assert (await changes.get()).state is HealthState.UP
            server.close()
            await server.wait_closed()
            await runner.close()

    asyncio.run(scenario())


def test_checks_and_the_packets_they_cause_are_counted(run):
    async def scenario() -> None:
        async with bench() as b:
            b.backends.result[A] = replace(PASSED, packets=4)
            b.runner.update([service(A)])
            await asyncio.sleep(20)
            assert b.runner.made == len(b.backends.started)
            assert b.runner.packets == 4 * b.runner.made

    run(scenario())
