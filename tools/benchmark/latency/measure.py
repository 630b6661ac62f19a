"""Every balancer in every scene, in turns."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Final

from benchmark import BenchError
from benchmark.hosts import WEB_PORT
from benchmark.latency.balancers import serving
from benchmark.latency.generator import Answer, Order
from benchmark.latency.pool import Pool, Report, script
from benchmark.latency.runs import Run, evaluated
from benchmark.latency.scenes import Scene
from benchmark.latency.workload import WARM_UP, arrivals
from benchmark.statistics import rotated

_LEAD: Final = 1.0  # seconds for the generator to start
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
    anew for every turn: what it has learnt of the servers in one scene must not help it in the next.

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
        BenchError: a balancer does not start or does not balance, or leaves something behind.
    """
    for number in range(rounds):
        requests = arrivals(rate, seconds, seed=number)
        for scene in scenes:
            for balancer in rotated(balancers, number):
                progress(f"round {number + 1}, {scene.name}: {balancer}")
                pool.site.check_clean()
                pool.site.next_client()
                with serving(balancer, pool, datapath):
                    pool.wait_serving()
                    answers, reports = _play(pool, scene, requests)
                names = [server.name for server in pool.servers]
                yield evaluated(number + 1, scene, balancer, names, answers, reports)
    pool.site.check_clean()


def _play(
    pool: Pool, scene: Scene, requests: list[tuple[float, float]]
) -> tuple[list[Answer], list[Report]]:
    start = time.monotonic() + _LEAD + WARM_UP
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
