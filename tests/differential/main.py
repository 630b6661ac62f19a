"""The command ``tools/fuzz``: random traffic for as many packets as asked for, or until a difference.

Exit status 0: no difference; 1: a difference, which is printed as a packet case; 2: wrong usage; 3: no
eBPF here.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from random import Random
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from l4lb.datapath.libbpf import LibbpfError
from tests.differential.compare import Difference, Pair
from tests.differential.paste import as_case
from tests.differential.program import Program
from tests.differential.rules import Reference

STEPS: Final = 300
"""Of one run: long enough for connections to meet and to end, short enough to be shortened quickly."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    options = _arguments().parse_args(arguments)
    console = Console()
    if os.geteuid() != 0:
        console.print("tools/fuzz: eBPF programs and network namespaces need root")
        return 3
    try:
        program = Program(options.datapath)
    except LibbpfError as problem:
        console.print(f"tools/fuzz: {problem}", markup=False, highlight=False)
        return 3
    try:
        with program.inside():
            return _fuzz(Pair(Reference(), program), options, console)
    except KeyboardInterrupt:
        return 130
    finally:
        program.close()


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
    return parser


def _fuzz(pair: Pair, options: argparse.Namespace, console: Console) -> int:
    begun = time.monotonic()
    packets, run = 0, options.first_run
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"{options.datapath} and the pure core", total=options.packets)
        while packets < options.packets:
            done, found = pair.explore(Random(f"{options.seed}/{run}"), STEPS)
            packets += done
            progress.update(bar, completed=packets)
            if found is not None:
                break
            run += 1
        else:
            rate = packets / (time.monotonic() - begun)
            console.print(f"{packets:,} packets, {rate:,.0f} a second: no difference")
            return 0
    console.print(
        f"run {run} of seed {options.seed}, after {packets:,} packets: {found.what}", markup=False
    )
    _print_case(pair, pair.shorten(found), console)
    return 1


def _print_case(pair: Pair, found: Difference, console: Console) -> None:
    """As it can be pasted into tests/conformance/cases."""
    text = as_case(found.run, pair.reference, found.what)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
