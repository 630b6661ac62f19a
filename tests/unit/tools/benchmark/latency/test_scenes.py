"""What servers and clients are going to do."""

import pytest

from benchmark.latency.scenes import SCENES, SERVERS, Scene, scenes
from benchmark.latency.workload import SERVICE_TIME, WARM_UP, arrivals


def test_the_same_seed_gives_the_same_requests_with_the_rate_and_work_that_were_asked_for():
    requests = arrivals(120.0, 100.0, seed=3)
    assert requests == arrivals(120.0, 100.0, seed=3)
    assert requests != arrivals(120.0, 100.0, seed=4)
    times = [time for time, _ in requests]
    assert times == sorted(times)
    assert -WARM_UP < times[0] < -WARM_UP + 1
    assert times[-1] < 100
    assert len(requests) == pytest.approx(120 * (100 + WARM_UP), rel=0.05)
    assert sum(work for _, work in requests) / len(requests) == pytest.approx(SERVICE_TIME, rel=0.05)


def test_every_scene_is_there_with_new_and_with_kept_connections():
    both = {f"{scene}{kept}" for scene in SCENES[:6] for kept in ("", "-keepalive")}
    assert set(SCENES) == {*both, "agents"}
    kept = scenes(20)["stall-keepalive"].clients
    assert (kept.requests, kept.patience, kept.tries) == (100, 1.5, 3)


def at(scene: Scene, time: float) -> list[tuple[float, float]]:
    """Speed and pace of all servers at a time."""
    found = [(1.0, 1.0)] * SERVERS
    for action in scene.actions:
        if action.at <= time:
            found[action.server] = action.speed, action.pace
    return found


def test_actions_are_in_order():
    for scene in scenes(20).values():
        times = [action.at for action in scene.actions]
        assert times == sorted(times)


@pytest.mark.parametrize("seconds", [6, 13, 14, 20])
def test_what_happens_goes_on_when_it_is_to_be_explained(seconds: int):
    for scene in scenes(seconds).values():
        assert 0 < scene.explained < seconds
        changes = {action.at for action in scene.actions} | {scene.busy, scene.recovers}
        assert all(time is None or abs(time - scene.explained) >= 0.5 for time in changes)


@pytest.mark.parametrize(("name", "how"), [("bursts", (0.2, 1.0)), ("bursts-begun", (1.0, 0.2))])
def test_bursts_wander_over_all_servers_one_at_a_time(name: str, how: tuple[float, float]):
    slow = []
    for time in range(-4, 20, 2):
        found = at(scenes(20)[name], time + 1)
        assert sorted(found) == sorted([how, *[(1.0, 1.0)] * (SERVERS - 1)])
        slow.append(found.index(how))
    assert slow == [number % SERVERS for number in range(12)]
