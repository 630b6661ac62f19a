"""Every balancer in every scene, in turns."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Final

from benchmark import BenchError
from benchmark.figures.statistics import rotated
from benchmark.lab.hosts import WEB_PORT
from benchmark.latency.agents import open_agents
from benchmark.latency.balancers import LISTENING, SERVICE, serving
from benchmark.latency.generator import Answer, Order
from benchmark.latency.observed import observed
from benchmark.latency.pool import Pool, Report, script
from benchmark.latency.runs import Run, evaluated
from benchmark.latency.scenes import VICTIM, Scene
from benchmark.latency.workload import WARM_UP, arrivals

_LEAD: Final = 1.0  # seconds for the generator to start
_TRIES: Final = 3  # of a turn: one in which this machine was too busy is played again
_GRACE: Final = 30.0  # seconds it may take longer than its slowest request


def measure(
    pool: Pool,
    balancers: Sequence[str],
    scenes: Sequence[Scene],
    *,
    datapath: str,
    rate: float,
    rounds: int,
    seconds: float,
    progress: Callable[[str], None],
) -> Iterator[Run]:
    """One turn of each balancer in each scene and round.

    The turns of a scene follow one another and are given the same requests. A balancer is started
    anew for every turn: what it has learnt of the servers in one scene must not help it in the next. A turn
    in which the machine was too busy is played again, twice at most.

    Args:
        pool: the servers.
        balancers: out of ``BALANCERS``.
        scenes: to be played.
        datapath: of l4lb.
        rate: requests a second.
        rounds: turns of each.
        seconds: of each turn, that count.
        progress: called before each turn, says which.

    Raises:
        BenchError, LabError: a balancer does not start or does not balance, or leaves something behind.
    """
    for number in range(rounds):
        for scene in scenes:
            requests = arrivals(rate * scene.load, seconds, seed=number)
            for balancer in rotated(playing(scene, balancers), number):
                progress(f"round {number + 1}, {scene.name}: {balancer}")
                for _ in range(_TRIES):
                    run = _turn(pool, scene, balancer, datapath, number + 1, requests)
                    if not run.wrong:
                        break
                yield run
    pool.site.check_clean()


def check(scene: Scene, balancers: Sequence[str], rate: float, rounds: int, seconds: float) -> None:
    """See that there is something to measure, before anything is started.

    Raises:
        BenchError: nobody takes part in the scene, or a round has no request that counts.
    """
    if not playing(scene, balancers):
        raise BenchError(
            f"{scene.name}: only {', '.join(LISTENING)} take part, and none of them was chosen"
        )
    for number in range(rounds):
        requests = arrivals(rate * scene.load, seconds, seed=number)
        if not requests or requests[-1][0] < 0:
            raise BenchError(f"{scene.name}: at {rate:g} requests a second none comes within {seconds:g} s")


def playing(scene: Scene, balancers: Sequence[str]) -> list[str]:
    """Those of the balancers that take part in a scene: where all there is to know comes from agents, those
    that listen to them."""
    return [name for name in balancers if scene.busy is None or name in LISTENING]


def _turn(
    pool: Pool,
    scene: Scene,
    balancer: str,
    datapath: str,
    round: int,
    requests: list[tuple[float, float]],
) -> Run:
    pool.site.check_clean()
    client = pool.site.next_client()
    with ExitStack() as stack:
        agents, hosts = (None, None) if scene.busy is None else stack.enter_context(open_agents(pool))
        daemon = stack.enter_context(serving(balancer, pool, datapath, agents))
        pool.wait_serving()
        start = time.monotonic() + _LEAD + WARM_UP
        if hosts is not None and scene.busy is not None:
            hosts.make_busy(VICTIM, start + scene.busy)
        with observed(daemon, client, SERVICE, start + scene.explained) as said:
            answers, reports = _play(pool, scene, requests, start)
    names = [server.name for server in pool.servers]
    return evaluated(round, scene, balancer, names, answers, reports, said)


def _play(
    pool: Pool, scene: Scene, requests: list[tuple[float, float]], start: float
) -> tuple[list[Answer], list[Report]]:
    clients = scene.clients
    order = Order(
        host=pool.site.vip,
        port=WEB_PORT,
        start=start,
        arrivals=requests,
        requests=clients.requests,
        patience=clients.patience,
        tries=clients.tries,
    )
    pool.begin(scene.actions, start)
    try:
        done = pool.site.run(
            "client",
            *script("generator"),
            text=json.dumps(asdict(order)),
            timeout=_LEAD + WARM_UP + requests[-1][0] + clients.longest + _GRACE,
        )
    except subprocess.TimeoutExpired:
        raise BenchError("the generator of requests did not come to an end") from None
    if done.returncode:
        raise BenchError(f"the generator of requests: {done.stderr.strip().splitlines()[-1]}")
    return [Answer(**answer) for answer in json.loads(done.stdout)], pool.end()
