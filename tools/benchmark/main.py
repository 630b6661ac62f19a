"""What ``tools/bench`` does, from the command line to the exit status.

Exit status 0: the run was valid, whatever the figures. 1: it was not. 2: wrong usage.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Final

from rich.console import Console

from benchmark import BenchError
from benchmark.alone import ebpf, micro, table_size
from benchmark.arguments import chosen, packet_peers, parse, traffic_peers
from benchmark.compare import comparison, small_packets
from benchmark.compare.loads import CONNECTIONS, LOADS, ON_ONE_CORE, THREADS
from benchmark.endurance.flood import flood
from benchmark.endurance.restart import restart
from benchmark.figures.statistics import rotated
from benchmark.lab.cables import open_cables
from benchmark.lab.cores import load_average
from benchmark.lab.hosts import RENO
from benchmark.lab.site import open_site
from benchmark.latency.balancers import BALANCERS, absent
from benchmark.latency.measure import check, playing
from benchmark.latency.measure import measure as measure_latency
from benchmark.latency.pool import open_pool
from benchmark.latency.scenes import scenes
from benchmark.peers.peers import PEERS
from benchmark.profile import hotspots
from benchmark.report.console import show
from benchmark.report.environment import BUSY, environment
from benchmark.report.plot import plot
from benchmark.report.results import Results
from netlab import LabError
from netlab.daemon import KERNEL_DATAPATHS
from netlab.tool import end_as_after_an_error
from progress import progress

_ON_CABLES: Final = ("packets", "alone", "flood", "restart")
_WIDTH: Final = 130  # columns, where the output is no terminal


@contextmanager
def _turns(total: int) -> Iterator[Callable[[str], None]]:
    """A bar that is told what comes next, so many times: what came before is done then."""
    with progress(total, "the lab comes up", counted=True) as step:
        done = chain((0,), repeat(1))
        yield lambda what: step(what, next(done))


def _able(only: Sequence[str], known: Sequence[str], absent: Callable[[str], str | None]) -> list[str]:
    """The chosen peers that can run here; the others are named.

    Args:
        only: those asked for, perhaps none.
        known: all of them.
        absent: says of one why it cannot run; None: it can.

    Raises:
        BenchError: one that was asked for cannot.
    """
    peers = []
    for name in chosen(only, known):
        if (reason := absent(name)) is None:
            peers.append(name)
        elif name in only:
            raise BenchError(f"{name}: {reason}")
        else:
            print(f"tools/bench: {name} is left out: {reason}", file=sys.stderr)
    return peers


def _compare(results: Results, options: argparse.Namespace) -> None:
    peers = _able(options.only, traffic_peers(), lambda name: PEERS[name].absent())
    loads = chosen(options.only, list(LOADS))
    total = comparison.steps(peers, loads, options.rounds)
    with _turns(total) as step, open_site(options.prefix) as site:
        measured = comparison.compare(site, peers, loads, options.rounds, options.seconds, step)
        results.measurements.extend(measured)


def _cables(results: Results, options: argparse.Namespace) -> None:
    """What is measured without servers: packets, alone, flood, restart."""
    wanted = _ON_CABLES if options.command == "all" else [options.command]
    peers, ours = chosen(options.only, packet_peers()), chosen(options.only, KERNEL_DATAPATHS)
    rounds = options.rounds
    turns = {"packets": len(peers), "alone": len(ours) * len(ebpf.CASES)}
    total = sum(turns.get(name, len(ours)) for name in wanted)
    with _turns(total * rounds) as step, open_cables(options.prefix) as cables:
        if "packets" in wanted:
            results.measurements += small_packets.measure(
                cables, peers, options.flows, rounds, options.seconds, step
            )
        if "alone" in wanted:
            results.alone += ebpf.measure(cables, ours, ebpf.CASES, rounds, step)
        for name, endure in (("flood", flood), ("restart", restart)):
            for datapath in ours if name in wanted else ():
                results.endured += endure(cables, datapath, rounds, options.seconds, step)


def _latency(results: Results, options: argparse.Namespace) -> None:
    known = scenes(options.seconds)
    balancers = _able(options.only, BALANCERS, absent)
    played = []
    for scene in (known[name] for name in chosen(options.scenes, list(known))):
        if not options.scenes and not playing(scene, balancers):
            print(f"tools/bench: {scene.name} is left out: none of {', '.join(balancers)}", file=sys.stderr)
            continue
        check(scene, balancers, options.rate, options.rounds, options.seconds)
        played.append(scene)
    total = options.rounds * sum(len(playing(scene, balancers)) for scene in played)
    with _turns(total) as step, open_site(options.prefix) as site, open_pool(site) as pool:
        results.latency += measure_latency(
            pool,
            balancers,
            played,
            datapath=options.datapath,
            rate=options.rate,
            rounds=options.rounds,
            seconds=options.seconds,
            progress=step,
        )


def _micro(results: Results, options: argparse.Namespace) -> None:
    with _turns(len(micro.STEPS) + options.rounds * len(options.sizes)) as step:
        for measure in micro.STEPS:
            step("Python alone")
            results.costs.append(measure())
        for number in range(options.rounds):
            for size in rotated(options.sizes, number):
                step(f"round {number + 1}, a table of {size} connections")
                results.sizes.append(table_size.measure(size, number + 1))


def _profile(results: Results, options: argparse.Namespace) -> None:
    loads = chosen(options.only, list(LOADS))
    with _turns(len(loads)) as step, open_site(options.prefix) as site:
        results.hotspots += hotspots.look(site, loads, options.seconds, step)


def _run(options: argparse.Namespace) -> int:
    settings = {
        name: value for name, value in vars(options).items() if name not in ("json", "plot", "prefix")
    }
    settings |= {"wrk threads": THREADS, "wrk connections": CONNECTIONS}
    settings |= {"on one core": sorted(ON_ONE_CORE), "hosts": "on cables", "sysctl": RENO}
    results = Results(environment(), settings)
    if load_average() > BUSY:
        print(
            f"tools/bench: the machine is busy, load average {load_average():.2f}: figures will be low",
            file=sys.stderr,
        )
    try:
        _measure(results, options)
    except BaseException as error:  # whatever it is: hours may have gone into what is there
        ended = isinstance(error, KeyboardInterrupt | SystemExit)
        results.incomplete = "interrupted" if ended else str(error) or type(error).__name__
        if not results.is_empty:
            _tell(results, options)
        raise
    return _tell(results, options)


def _measure(results: Results, options: argparse.Namespace) -> None:
    if options.command in ("all", "compare"):
        _compare(results, options)
    if options.command in ("all", *_ON_CABLES):
        _cables(results, options)
    if options.command in ("all", "micro"):
        _micro(results, options)
    if options.command == "latency":
        _latency(results, options)
    if options.command == "profile":
        for line in hotspots.missing():
            print(f"tools/bench: {line}", file=sys.stderr)
        _profile(results, options)


def _tell(results: Results, options: argparse.Namespace) -> int:
    """Show and write what was measured; the exit status.

    Raises:
        BenchError: nothing that was measured can be drawn, or the picture cannot be written.
    """
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    show(results, console)
    if getattr(options, "plot", None):
        try:
            plot(results, options.plot)
        except (OSError, ValueError) as error:
            raise BenchError(f"{options.plot}: {error}") from None
    return 1 if results.errors or results.incomplete else 0


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; its exit status."""
    options = parse(argv)
    end_as_after_an_error()
    try:
        return _run(options)
    except (BenchError, LabError) as error:
        print(f"tools/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
