"""The simulator obeys queueing theory, and adaptive does in it what it is there for.

Short runs with fixed seeds: they show the direction. How far it goes is for ``tools/simulate``.
"""

from functools import cache
from random import Random

import pytest

from simulation import plot
from simulation.events import Events
from simulation.figures import figures
from simulation.policies import BOUNDS, POLICIES
from simulation.scenes import SCENES, WARM_UP
from simulation.servers import Job, Server
from simulation.simulator import Simulation

BACKENDS = 5
SECONDS = 25.0
SEEDS = 2


def one(scene, policy, seed):
    simulation = Simulation(SCENES[scene], {**POLICIES, **BOUNDS}[policy](), BACKENDS, SECONDS, seed)
    return simulation.run(SECONDS, lambda passed: None)


@cache
def result(scene, policy, seeds=SEEDS):
    return figures([one(scene, policy, seed) for seed in range(seeds)], BACKENDS, SECONDS)


def compared(scene):
    """Adaptive, and the one that was best of the others at all of them."""
    return result(scene, "adaptive"), result(scene, "least_connection")


def test_two_runs_with_one_seed_are_the_same():
    once, again = (
        Simulation(SCENES["bursts"], POLICIES["adaptive"](), 3, 10.0, 7).run(10.0, lambda passed: None)
        for _ in range(2)
    )
    assert once.latency == again.latency


def test_a_queue_of_one_server_is_as_long_as_theory_says():
    """M/M/1 at 60%: the mean time in the system is 1 / (mu - lambda), 250 ms."""
    events, random, times = Events(), Random(1), []
    server = Server(events, 1)

    def arrive():
        now = events.now
        events.at(now + random.expovariate(6.0), arrive)
        server.take(Job(random.expovariate(10.0), lambda: times.append(events.now - now), lambda: None))

    arrive()
    events.run(10_000.0)
    assert sum(times) / len(times) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(("preempted", "end"), [(False, 1.0), (True, 5.5)])
def test_work_under_way_keeps_its_speed_unless_it_is_preempted(preempted, end):
    events, ends = Events(), []
    server = Server(events, 1, preempted=preempted)
    server.take(Job(1.0, lambda: ends.append(events.now), lambda: None))
    events.at(0.5, server.set_speed, 0.1)
    events.run(10.0)
    assert ends == [pytest.approx(end)]


def test_a_stalled_server_goes_on_where_it_stood_and_a_stopped_one_loses_all():
    events, ends, lost = Events(), [], []
    server = Server(events, 1)
    for _ in range(3):
        server.take(Job(1.0, lambda: ends.append(events.now), lambda: lost.append(events.now)))
    events.at(0.5, server.set_speed, 0.0)
    events.at(2.5, server.set_speed, 1.0)
    events.at(3.5, server.stop)
    events.run(10.0)
    assert ends == [3.0]
    assert lost == [3.5, 3.5]


def test_all_alike_nobody_is_preferred():
    ours, theirs = compared("alike")
    assert ours.p99 < 1.05 * theirs.p99
    each = [figures([one("alike", "adaptive", seed)], BACKENDS, SECONDS).uneven for seed in range(20)]
    assert max(each) < 0.15


def test_the_slow_one_is_left_alone():
    ours, theirs = compared("slow")
    assert ours.p99 < 0.5 * theirs.p99


@pytest.mark.parametrize("scene", ["bursts", "bursts-begun"])
def test_bursts_are_evaded(scene):
    ours, theirs = compared(scene)
    assert ours.p99 < 0.85 * theirs.p99


def test_who_knows_sooner_evades_bursts_better():
    """Not by much: what the late one has before adaptive is less than two runs differ."""
    names = ("oracle", "late_oracle", "adaptive")
    oracle, late, ours = (result("bursts", name, seeds=8).p99 for name in names)
    assert oracle < late < ours


def test_the_stalled_one_is_avoided_at_once():
    ours, theirs = compared("stall")
    assert ours.p99 < 0.5 * theirs.p99
    assert ours.failed < 0.5 * theirs.failed
    assert ours.lost <= theirs.lost
    assert ours.avoided is not None
    assert ours.avoided < 1.0


def test_the_one_that_recovers_has_its_share_again():
    ours, theirs = compared("recovery")
    assert ours.p99 < theirs.p99
    assert ours.recovered is not None
    assert ours.recovered < 5.0


def test_the_one_that_refuses_gets_little():
    ours, theirs = compared("restart")
    assert ours.failed < 0.5 * theirs.failed


@pytest.mark.parametrize("scene", ["alike-keep", "slow-keep", "stall-keep"])
def test_with_connections_that_are_kept_it_is_no_worse(scene):
    ours, theirs = compared(scene)
    assert ours.p99 < 1.05 * theirs.p99


def test_figures_leave_the_warm_up_out_and_count_who_still_waits():
    scene = SCENES["slow"]
    log = Simulation(scene, POLICIES["round_robin"](), 3, 10.0, 1).run(10.0, lambda passed: None)
    counted = figures([log], 3, 10.0)
    assert counted.requests == sum(began >= WARM_UP for began in log.began)
    assert counted.requests > 0.99 * sum(asked >= WARM_UP for asked in log.asked)


def test_who_still_waits_in_the_end_is_waited_for():
    """One server cannot keep up: what it has not done yet counts as what it takes, or as lost."""
    it = result("slow", "round_robin")
    assert it.lost > 0
    assert it.p99 > 8


def test_every_policy_and_bound_can_be_drawn():
    assert plot._COLOURS.keys() == {*POLICIES, *BOUNDS}
