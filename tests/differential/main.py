"""The command ``tools/fuzz``: random traffic for as many packets as asked for, or until a difference.

Exit status 0: no difference; 1: a difference, which is printed as a packet case; 2: wrong usage; 3: it
could not be tried.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.differential.processes import Explored, Failed, Found, Make, Processes, Shortened
from tests.differential.program import running


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    options = _arguments().parse_args(arguments)
    console = Console()
    if os.geteuid() != 0:
        console.print("tools/fuzz: eBPF programs and network namespaces need root")
        return 3
    try:
        return explore(functools.partial(running, options.datapath), options, console)
    except KeyboardInterrupt:
        return 130


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--packets", type=int, default=100_000, metavar="N", help="at least so many (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another one, other packets (default: %(default)s)"
    )
    parser.add_argument(
        "--first-run", type=int, default=0, metavar="N", help="begin with this run of the seed"
    )
    parser.add_argument(
        "--datapath",
        choices=("tc", "xdp"),
        default="tc",
        help="the TC program, or the XDP program with it behind (default: %(default)s)",
    )
    parser.add_argument(
        "--processes",
        type=_count,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="do so many runs at a time (default: one for each CPU, %(default)s)",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def explore(make: Make, options: argparse.Namespace, console: Console) -> int:
    """Compare the engine that ``make`` gives with the pure core, and print what comes of it; the exit
    status."""
    begun = time.monotonic()
    packets, status = 0, 0
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        Processes(make, options.seed, options.first_run, options.processes) as processes,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        bar = progress.add_task(f"{options.datapath} and the pure core", total=options.packets)
        for report in processes.reports():
            match report:
                case Explored():
                    packets += report.packets
                    progress.update(bar, completed=packets)
                    if packets >= options.packets:
                        processes.stop()
                case Found():
                    status = 1
                    processes.stop()
                    progress.update(bar, description="making it shorter")
                    text = (
                        f"run {report.run} of seed {options.seed}, after {packets:,} packets: {report.what}"
                    )
                    console.print(text, markup=False, highlight=False, soft_wrap=True)
                case Shortened():
                    console.print(report.case, markup=False, highlight=False, soft_wrap=True)
                case Failed():
                    status = 3
                    processes.stop()
                    console.print(f"tools/fuzz: {report.why}", markup=False, highlight=False)
    if not status and packets < options.packets:
        console.print("tools/fuzz: its processes were killed")
        return 3
    if not status:
        rate = packets / (time.monotonic() - begun)
        console.print(f"{packets:,} packets, {rate:,.0f} a second: no difference")
    return status
