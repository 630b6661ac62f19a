"""All transfers through the VIP under way: l4lb, their server and their client, and what that says of them.

Their client and their server have one core, with or without what is to be endured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark import BenchError
from benchmark.endurance.transfers import MARK, TOLL
from benchmark.lab.cables import Cables
from benchmark.lab.cores import OTHER_CORE
from benchmark.peers.l4lb import config_text, running
from benchmark.peers.service import Served
from netlab.daemon import Daemon

PORT: Final = 5_000
SETTLE: Final = 1.0  # seconds for the transfers to get up to speed

_TRANSFERS: Final = 1_000
_SCRIPT: Final = Path(__file__).with_name("transfers.py")


class Transfers:
    """All transfers, from the client's side: so many, of which none is to be lost."""

    def __init__(self, process: subprocess.Popen[str], count: int) -> None:
        self._process = process
        self.intact = count
        self._broken: list[str] = []  # why, since the last toll

    def toll(self) -> tuple[int, tuple[str, ...]]:
        """How many were lost since the last time, whenever that was, and why. Of which nothing has come
        since the last mark, those are lost, and ended."""
        report, reasons = self.mark(TOLL), tuple(self._broken)
        lost, self.intact = self.intact - report.open, report.open
        self._broken.clear()
        return lost, reasons

    def mark(self, command: str = MARK) -> Report:
        """What has happened since the last time.

        Raises:
            BenchError: the client has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(command)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it says why
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            complaint = self._process.stderr.read().strip().splitlines() or ["it said nothing"]
            raise BenchError(f"the client of the transfers ended: {complaint[-1]}")
        report = json.loads(line)
        self._broken += report["broken"]
        return Report(report["bytes"] * 8 / report["seconds"], report["open"], report["silent"])


@dataclass(frozen=True, slots=True)
class Report:
    """What has come in between two marks."""

    rate: float  # bits a second
    open: int
    silent: int  # of those open: without a byte


@contextmanager
def _transfers(cables: Cables, count: int) -> Iterator[Transfers]:
    """So many transfers through the VIP, under way."""
    python = ("taskset", "--cpu-list", str(OTHER_CORE), sys.executable, "-I", str(_SCRIPT))
    with cables.server("backend", PORT, *python, "serve", str(PORT), name="transfers"):
        process = subprocess.Popen(
            cables.command("client", *python, "fetch", str(count), str(PORT), cables.vip),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                transfers = Transfers(process, count)
                transfers.mark()
                time.sleep(SETTLE)
                transfers.mark()
                yield transfers
            finally:
                process.terminate()


@contextmanager
def under_way(cables: Cables, datapath: str) -> Iterator[tuple[Daemon, Transfers]]:
    """l4lb, with all transfers through it.

    Raises:
        BenchError, LabError: one of them does not start, or there is no core for what is to be endured.
    """
    if OTHER_CORE is None:
        raise BenchError("transfers and what they endure have a core each: tools/bench may use one only")
    service = Served("transfers", PORT, [f"{address}:{PORT}" for address in cables.backends])
    text = config_text(datapath, cables.vip, [service])
    with running(cables, datapath, text) as control, _transfers(cables, _TRANSFERS) as transfers:
        yield control, transfers
