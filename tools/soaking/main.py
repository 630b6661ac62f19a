"""What ``tools/soak`` does, from the command line to the exit status.

Exit status 0: nothing leaks; 1: something does, or it could not be tried; 2: wrong usage.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from l4lb.cli.client import DaemonError
from netlab import LabError
from netlab.daemon import DATAPATHS, KERNEL_DATAPATHS
from netlab.tool import end_as_after_an_error
from progress import progress
from soaking.clients import CLIENTS
from soaking.config import LONGEST_TIMEOUT
from soaking.field import Field, open_field, programs
from soaking.trouble import TROUBLES
from soaking.watch import Counts, Watch, left

_LOOK: Final = 0.2  # seconds between two looks at the counts
_SWEEP: Final = 5.0  # seconds between two looks of the eBPF datapaths for what has expired
_DRAIN: Final = LONGEST_TIMEOUT + 3 * _SWEEP
"""Seconds from the last packet until nothing must be left: all expires, and two sweeps look for it."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it.

    Attributes:
        done, failed: of each sort of clients, how many did what they are for, and how many could not.
        troubles: how many of each.
        busy: how many backends had anything when the clients were cut off.
        left: what had not come back to 0 in the end.
        drained: seconds until all had.
    """

    done: dict[str, int]
    failed: dict[str, int]
    troubles: dict[str, int]
    watch: Watch
    busy: int
    left: dict[str, Counts]
    drained: float

    @property
    def complaints(self) -> list[str]:
        """What is wrong, a line each."""
        lines = [f"{name}: {why}" for name, why in self.watch.faults.items()]
        lines += [f"{name}: after all is over, {counts}" for name, counts in self.left.items()]
        wanted = {client.__name__ for clients in CLIENTS.values() for client, _ in clients}
        wanted |= {trouble.__name__ for trouble in TROUBLES}
        done = self.done | self.troubles
        lines += [f"never happened: {_words(name)}" for name in sorted(wanted) if not done.get(name)]
        return lines


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--minutes", default=10.0, type=click.FloatRange(0.2), help="Of traffic; then it drains.")
@click.option("--datapath", default="tc", type=click.Choice(DATAPATHS))
@click.option("--seed", default=0, help="Another one, other traffic and troubles.")
@click.option(
    "--prefix", default="l4lb-soak", help="Of the lab, which is made anew and removed at the end."
)
def main(minutes: float, datapath: str, seed: int, prefix: str) -> None:
    """Mixed traffic through l4lb while backends crash, stall, come and go, until the clients are cut off.

    The counts of connections and of outstanding requests must be possible all the time, and come back to
    0 by timeouts alone. As root.
    """
    end_as_after_an_error()
    if os.geteuid():
        raise click.ClickException("the lab is made of network namespaces: run it as root")
    seconds = 60 * minutes
    try:
        total = seconds + _DRAIN
        with progress(total, "the lab comes up") as step, open_field(prefix, datapath) as field:
            soaked = soak(field, datapath, seconds, seed, step)
    except (DaemonError, LabError) as error:
        raise click.ClickException(str(error)) from None
    _show(soaked, Console(width=None if sys.stdout.isatty() else 100))
    sys.exit(1 if soaked.complaints else 0)


def soak(
    field: Field, datapath: str, seconds: float, seed: int, step: Callable[[str, float], None]
) -> Soaked:
    """So many seconds of traffic and troubles, then the end of it.

    Raises:
        DaemonError: l4lb fails.
        LabError: the clients do.
    """
    watch, troubles, following = Watch(), Counter[str](), 0.0
    with ExitStack() as stack:
        own = stack.enter_context(programs(field.daemon)) if datapath in KERNEL_DATAPATHS else dict
        clients = stack.enter_context(field.traffic(seed))
        begun = looked = time.monotonic()

        def look(what: str) -> dict[str, Counts]:
            nonlocal looked
            before, looked = looked, time.monotonic()
            step(what, looked - before)
            time.sleep(_LOOK)
            counted = field.counted() | own()
            watch.look(counted)
            return left(counted)

        happens = _troubles(field, random.Random(seed), begun + seconds, troubles)
        while following < math.inf:
            look("traffic")
            if time.monotonic() >= following:
                following = time.monotonic() + next(happens, math.inf)
        busy = len(left(field.counted()))
        field.cut()
        over = time.monotonic()
        told = _told(clients)
        while (remaining := look("drains")) and time.monotonic() < over + _DRAIN:
            pass
        drained = time.monotonic() - over
    return Soaked(told["done"], told["failed"], dict(troubles), watch, busy, remaining, drained)


def _troubles(field: Field, rng: random.Random, ends: float, count: Counter[str]) -> Iterator[float]:
    """The steps of one trouble after the other, each as often as the others: seconds until the next."""
    while time.monotonic() < ends:
        for trouble in rng.sample(TROUBLES, len(TROUBLES)):
            count[trouble.__name__] += 1
            yield from trouble(field, rng)


def _told(clients: subprocess.Popen[str]) -> dict[str, dict[str, int]]:
    said, _ = clients.communicate()
    try:
        told: dict[str, dict[str, int]] = json.loads(said)
    except ValueError:
        raise LabError(f"the clients ended with exit status {clients.returncode}") from None
    return told


def _show(soaked: Soaked, console: Console) -> None:
    table = Table("clients", "did it", "could not", title="What was tried")
    for name in sorted(soaked.done):
        table.add_row(_words(name), f"{soaked.done[name]:,}", f"{soaked.failed.get(name, 0):,}")
    console.print(table)
    troubles = ", ".join(f"{_words(name)} {count}" for name, count in sorted(soaked.troubles.items()))
    most = soaked.watch.most
    console.print(f"meanwhile: {troubles}")
    console.print(
        f"{soaked.watch.looks:,} looks at the counts; the most that one backend had: {most.established} "
        f"established, {most.half_open} half-open, {most.outstanding} outstanding"
    )
    if not soaked.left:
        console.print(
            f"{soaked.busy} backends were busy when the clients were cut off, and none was "
            f"{soaked.drained:.1f} s later"
        )
    for line in soaked.complaints:
        console.print(f"tools/soak: {line}", markup=False, highlight=False, soft_wrap=True)


def _words(name: str) -> str:
    return name.replace("_", " ")


def run(arguments: Sequence[str]) -> None:
    """Do what the arguments say, and exit."""
    main.main(list(arguments), prog_name="tools/soak")
