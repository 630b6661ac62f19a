"""The queue of a server, by a clock of its own."""

import math
import random

import pytest

from benchmark.latency.workers import Workers


def finish(workers: Workers[str]) -> list[tuple[float, str]]:
    """Everything that will be finished, and when."""
    ends = []
    while (now := workers.due()) < math.inf:
        # A float below: what is due must be finished for good.
        ends += [(now, job) for job in workers.finished(math.nextafter(now, math.inf))]
    return ends


def test_first_come_first_served_by_as_many_as_there_are():
    workers: Workers[str] = Workers(2)
    for job, work in (("a", 3.0), ("b", 1.0), ("c", 1.0), ("d", 5.0)):
        workers.add(job, work, 10.0)
    assert finish(workers) == [(11.0, "b"), (12.0, "c"), (13.0, "a"), (17.0, "d")]


def test_a_change_of_speed_is_felt_in_the_middle_of_a_job():
    workers: Workers[str] = Workers(1)
    workers.add("a", 2.0, 0.0)
    workers.set_speed(0.1, 1.0)
    assert workers.due() == pytest.approx(11.0)
    workers.set_speed(1.0, 6.0)
    assert workers.due() == pytest.approx(6.5)


def test_a_pace_is_for_the_jobs_that_begin_at_it():
    workers: Workers[str] = Workers(1)
    workers.add("a", 1.0, 0.0)
    workers.add("b", 1.0, 0.0)
    workers.add("c", 1.0, 0.0)
    workers.pace = 0.2
    assert list(workers.finished(1.5)) == ["a"]
    workers.pace = 1.0
    assert finish(workers) == [(6.0, "b"), (7.0, "c")]


def test_at_speed_0_everything_stands_still_and_goes_on_later():
    workers: Workers[str] = Workers(1)
    workers.add("a", 2.0, 0.0)
    workers.set_speed(0.0, 1.0)
    workers.add("b", 1.0, 2.0)
    assert (workers.due(), list(workers.finished(1e9))) == (math.inf, [])
    workers.set_speed(1.0, 100.0)
    assert finish(workers) == [(101.0, "a"), (102.0, "b")]


def test_who_goes_makes_room_and_is_not_served():
    workers: Workers[str] = Workers(1)
    for job in ("a", "b", "c"):
        workers.add(job, 2.0, 0.0)
    workers.remove("b", 1.0)
    workers.remove("a", 1.0)
    workers.remove("never there", 1.0)
    assert finish(workers) == [(3.0, "c")]


def test_noticing_an_end_late_does_not_delay_who_comes_after():
    workers: Workers[str] = Workers(1)
    workers.add("a", 1.0, 0.0)
    workers.add("b", 1.0, 0.0)
    assert list(workers.finished(1.8)) == ["a"]
    assert workers.due() == 2.0


def erlang_c(count: int, load: float) -> float:
    """The probability that a request has to wait, of M/M/c; load in Erlang (Erlang 1917)."""
    full = load**count / math.factorial(count) * count / (count - load)
    return full / (sum(load**number / math.factorial(number) for number in range(count)) + full)


def test_random_requests_wait_as_long_as_theory_says():
    rate, service, count = 24.0, 0.1, 4
    chance = random.Random(1)
    workers: Workers[int] = Workers(count)
    came: list[float] = []
    total, now = 0.0, 0.0
    for number in range(50_000):
        now += chance.expovariate(rate)
        while (due := workers.due()) <= now:
            total += sum(due - came[job] for job in workers.finished(math.nextafter(due, math.inf)))
        came.append(now)
        workers.add(number, chance.expovariate(1 / service), now)
    wait = erlang_c(count, rate * service) / (count / service - rate)
    assert total / len(came) == pytest.approx(service + wait, rel=0.03)
