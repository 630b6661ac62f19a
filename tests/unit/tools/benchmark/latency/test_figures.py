"""What is computed from the requests of a run, and what has to be reached: all pure."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from benchmark.latency.balancers import BALANCERS
from benchmark.latency.generator import Answer
from benchmark.latency.observed import Observed
from benchmark.latency.pool import Report
from benchmark.latency.report import explanations, tables
from benchmark.latency.runs import LATEST, Run, evaluated
from benchmark.latency.scenes import SCENES, SERVERS, VICTIM, Scene
from benchmark.latency.targets import best_peer, targets
from benchmark.latency.workload import Clients

_NAMES = [f"server{number}" for number in range(SERVERS)]
_IN_TIME = [Report(0, 0.0)] * SERVERS


def answer(time: float, latency: float = 0.1, backend: str | None = "server0", *failures: str) -> Answer:
    return Answer(time, 0.001, latency, backend, list(failures))


def run_of(answers: Sequence[Answer], scene: Scene | None = None) -> Run:
    ran = scene or Scene("alike", "")
    return evaluated(1, ran, "haproxy-random", _NAMES, answers, _IN_TIME, Observed())


def test_requests_of_the_warm_up_do_not_count():
    run = run_of([answer(-1.0, 9.0, None, "timeout"), answer(0.0), answer(1.0, 0.2, "server3")])
    assert (run.requests, run.lost, run.failures, run.max) == (2, 0, {}, 0.2)
    assert run.shares == (1, 0, 0, 1, 0)


def test_a_lost_request_took_as_long_as_clients_wait_at_most():
    scene = Scene("stall", "", clients=Clients(patience=1.5, tries=2))
    refused = answer(0.0, 0.001, None, "refused", "refused")
    run = run_of([refused, answer(1.0, 1.6, "server1", "timeout")], scene)
    assert (run.lost, run.max, run.failures) == (1, 3.0, {"refused": 2, "timeout": 1})


def test_the_recovery_is_that_of_the_victim():
    times = [number / 10 for number in range(200)]
    victim = [answer(time, 0.1, _NAMES[VICTIM if time >= 10 else 0]) for time in times]
    others = [answer(time, 0.1, _NAMES[0]) for time in times]
    scene = Scene("recovery", "", recovers=10.0)
    assert (run_of(victim, scene).recovery, run_of(others, scene).recovery) == (0.0, None)


def test_a_busy_victim_is_avoided_from_where_it_hardly_gets_anything():
    times = [number / 10 for number in range(200)]
    busy = Scene("agents", "", busy=10.0)
    # Every fifth request until 11.5 s, then every fiftieth.
    chosen = [number % (5 if time < 11.5 else 50) == 0 for number, time in enumerate(times)]
    answers = [
        answer(time, 0.1, _NAMES[VICTIM if it else 0]) for time, it in zip(times, chosen, strict=True)
    ]
    assert run_of(answers, busy).avoided == pytest.approx(1.0)
    assert run_of([answer(time, 0.1, _NAMES[VICTIM]) for time in times], busy).avoided is None


def test_the_curve_has_a_point_for_each_half_second():
    run = run_of([answer(0.1, 0.1), answer(0.4, 0.3), answer(0.6, 0.2)])
    assert run.curve == ((0.25, 0.3), (0.75, 0.2))


def test_a_run_on_a_machine_that_is_too_busy_is_wrong():
    late = [Answer(0.0, 2 * LATEST, 0.1, "server0", [])]
    assert run_of([answer(0.0)]).wrong == []
    assert [word.partition(" was")[0] for word in run_of(late).wrong] == ["the generator"]
    reports = [*_IN_TIME[1:], Report(9, 2 * LATEST)]
    scene = Scene("alike", "")
    run = evaluated(1, scene, "haproxy-random", _NAMES, [answer(0.0)], reports, Observed())
    assert [word.partition(" was")[0] for word in run.wrong] == ["a server"]


def played(round: int, balancer: str, p99: float, scene: str = "alike", lost: int = 0) -> Run:
    recovery = 3.0 if scene == "recovery" else None
    ours = balancer == "l4lb-adaptive"
    shares = (110, 100, 100, 100, 90)
    return Run(
        round,
        scene,
        balancer,
        0.0,
        0.0,
        500,
        lost,
        {},
        shares,
        0.1,
        0.2,
        p99,
        1.0,
        recovery,
        1.5 if scene == "agents" else None,
        ((0.25, 0.1),),
        0.0005 if ours else None,
        f"of {scene}\n" if ours else None,
    )


def test_the_best_peer_is_not_ours_and_has_the_least_median():
    rows = [played(number, "haproxy-random", p99) for number, p99 in enumerate((0.5, 0.6, 9.0), 1)]
    rows += [played(number, "haproxy-leastconn", 0.7) for number in (1, 2, 3)]
    rows += [played(number, "l4lb-adaptive", 0.1) for number in (1, 2, 3)]
    assert best_peer(rows) == "haproxy-random"
    assert best_peer([]) is None


def test_targets_take_the_median_of_the_rounds_ratios_to_the_best_peer():
    rows = []
    for number, pace in enumerate((1.0, 4.0, 2.0), 1):
        rows += [
            played(number, "nginx-least_conn", 0.5 * pace),
            played(number, "l4lb-adaptive", 0.52 * pace),
        ]
    found = {target.title: target for target in targets(rows) if target.value is not None}
    probes = "alike: probe packets, % of those forwarded"
    assert set(found) == {"alike: p99 / nginx-least_conn", "alike: shares from even", probes}
    assert found[probes].value == pytest.approx(0.05)
    assert found["alike: p99 / nginx-least_conn"].value == pytest.approx(1.04)
    assert found["alike: shares from even"].value == pytest.approx(0.1)
    assert all(target.reached for target in found.values())


def test_losing_more_requests_than_the_best_peer_misses_the_target():
    rows = [
        played(1, "haproxy-leastconn", 1.0, "stall", lost=2),
        played(1, "l4lb-adaptive", 0.9, "stall", lost=3),
    ]
    (target,) = (it for it in targets(rows) if "lost" in it.title and it.value is not None)
    assert (target.value, target.reached) == (1, False)


def test_a_share_that_never_comes_back_misses_the_target():
    rows = [played(1, "l4lb-adaptive", 1.0, "recovery")]
    assert value_of("is back", rows) == (3.0, True)
    assert value_of("is back", [replace(rows[0], recovery=None)]) == (math.inf, False)


def test_a_busy_one_that_is_not_avoided_misses_the_target():
    run = played(1, "l4lb-adaptive", 1.0, "agents")
    assert value_of("avoid a busy one", [run]) == (1.5, True)
    assert value_of("avoid a busy one", [replace(run, avoided=None)]) == (math.inf, False)


def value_of(title: str, rows: Sequence[Run]) -> tuple[float | None, bool | None]:
    """Of the target with these words that was measured."""
    (target,) = (it for it in targets(rows) if title in it.title and it.value is not None)
    return target.value, target.reached


def test_nothing_is_reached_or_missed_without_ours():
    rows = [played(1, "haproxy-leastconn", 1.0, scene) for scene in SCENES]
    assert {target.reached for target in targets(rows)} == {None}


def printed(table: Table) -> str:
    output = io.StringIO()
    Console(file=output, width=200).print(table)
    return output.getvalue()


def test_there_is_a_table_for_each_scene_that_was_played():
    rows = [played(1, "haproxy-random", 0.5), played(2, "haproxy-random", 0.7)]
    rows += [replace(played(1, name, 1.0, "recovery"), recovery=None) for name in BALANCERS]
    alike, recovery = (printed(table) for table in tables(rows))
    assert re.search(r"haproxy-random .* 600 .* 22 20 20 20 18 .* 10%", alike)
    assert recovery.count("not in time") == len(BALANCERS)


def test_ours_is_explained_once_for_each_scene():
    rows = [played(number, "l4lb-adaptive", 0.5, scene) for number in (1, 2) for scene in ("slow", "alike")]
    rows.append(played(1, "haproxy-random", 0.5, "bursts"))
    assert list(explanations(rows)) == [("alike", "of alike\n"), ("slow", "of slow\n")]
