"""Runs of one seed in several processes, each with an engine of its own, until they are told to stop.

A run is known by its number, whoever does it, so that it can be done again.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Event
from random import Random
from types import TracebackType
from typing import Final, Self

from l4lb.datapath.libbpf import LibbpfError
from tests.differential.compare import Pair
from tests.differential.paste import as_case
from tests.differential.rules import Reference
from tests.differential.steps import Subject

STEPS: Final = 300
"""Of one run: long enough for connections to meet and to end, short enough to be shortened quickly."""

Make = Callable[[], AbstractContextManager[Subject]]


@dataclass(frozen=True)
class Explored:
    """A run is over."""

    packets: int


@dataclass(frozen=True)
class Found:
    """It ended with a difference."""

    run: int
    what: str


@dataclass(frozen=True)
class Shortened:
    """The run that was found, with as few steps as possible, as a packet case."""

    case: str


@dataclass(frozen=True)
class Failed:
    """A process cannot go on."""

    why: str


Report = Explored | Found | Shortened | Failed


class Processes:
    """They work until ``stop``, each until its first difference. A context: behind it there are none."""

    def __init__(self, make: Make, seed: int, first_run: int, count: int) -> None:
        """``make`` gives the engine that is tried, in the process that calls it."""
        context = multiprocessing.get_context("fork")
        self._stop = context.Event()
        self._readers: list[Connection] = []
        self._workers = []
        for number in range(count):
            reader, writer = context.Pipe(duplex=False)
            runs = itertools.count(first_run + number, count)
            work = (make, seed, runs, writer, self._stop)
            worker = context.Process(target=_work, args=work, daemon=True)
            worker.start()
            writer.close()  # or its end would not be seen
            self._readers.append(reader)
            self._workers.append(worker)

    def reports(self) -> Iterator[Report]:
        """What they have to say, as it comes, until the last one has ended."""
        while self._readers:
            for reader in wait(self._readers):
                assert isinstance(reader, Connection)
                try:
                    yield reader.recv()
                except EOFError:
                    self._readers.remove(reader)

    def stop(self) -> None:
        """Begin no more runs."""
        self._stop.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()


def _end(*_: object) -> None:
    """Leave, and whoever else says so, as the first process does, does not disturb that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def _work(make: Make, seed: int, runs: Iterable[int], reports: Connection, stop: Event) -> None:
    """What a process does."""
    parent = os.getppid()
    # Ctrl-C is for the first process, which ends the others: they leave nothing behind then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    try:
        with make() as tried:
            pair = Pair(Reference(), tried)
            for run in runs:
                if stop.is_set() or os.getppid() != parent:
                    return
                packets, found = pair.explore(Random(f"{seed}/{run}"), STEPS)
                reports.send(Explored(packets))
                if found is not None:
                    reports.send(Found(run, found.what))
                    shortest = pair.shorten(found)
                    reports.send(Shortened(as_case(shortest.run, pair.reference, shortest.what)))
                    return
    except LibbpfError as problem:
        reports.send(Failed(str(problem)))
    except Exception:
        reports.send(Failed(traceback.format_exc()))
