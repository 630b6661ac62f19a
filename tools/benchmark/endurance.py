"""Whether established connections live through a SYN flood, and through the death of the daemon.

On the cables: a thousand transfers through the VIP, whose every byte is checked. Their client and their
server have one core, with or without what is to be endured; the flood comes from the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark import BenchError
from benchmark.bpf.generator import sender
from benchmark.lab.cables import Cables
from benchmark.lab.hosts import CORE
from benchmark.peers.daemon import Daemon, Served, config_text, running
from benchmark.transfers import MARK, TOLL
from l4lb.model import Endpoint

_TRANSFERS: Final = 1_000
_PORT: Final = 5_000
_SCRIPT: Final = Path(__file__).with_name("transfers.py")
_OTHER_CORE: Final = ("taskset", "--cpu-list", str(CORE + 1))
_CORES: Final = 2
_SETTLE: Final = 1.0  # seconds for the transfers to get up to speed

# What would answer the flood is not what is tested, and would take the sender's time.
_QUIET_BACKEND: Final = """\
table netdev bench {
  chain ingress {
    type filter hook ingress device eth0 priority 0;
    ip saddr 10.128.0.0/9 counter drop
  }
}
"""


@dataclass(frozen=True, slots=True)
class Endured:
    """What one round did to the transfers.

    Attributes:
        datapath: of l4lb.
        what: "flood" or "restart".
        transfers: at the beginning of the round, those that no round before has lost.
        lost: of them broken, or silent afterwards; also by what the end of the round before has done.
        stalled: of them without a byte during the flood, or while the daemon was away.
        reasons: why they broke.
        before, during: bits a second; of a restart, while the daemon is away.
        starting: the same of a restart, while the new daemon starts and takes over.
        packets: a second, of the flood.
        passed: of those, how many l4lb sent on, a second.
    """

    datapath: str
    what: str
    transfers: int
    lost: int
    stalled: int
    reasons: tuple[str, ...]
    before: float
    during: float
    packets: float = 0.0
    passed: float = 0.0
    starting: float = 0.0


class _Transfers:
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

    def mark(self, command: str = MARK) -> _Report:
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
        return _Report(report["bytes"] * 8 / report["seconds"], report["open"], report["silent"])


@dataclass(frozen=True, slots=True)
class _Report:
    rate: float  # bits a second
    open: int
    silent: int  # of those open: without a byte


@contextmanager
def _transfers(cables: Cables, count: int) -> Iterator[_Transfers]:
    """So many transfers through the VIP, under way."""
    python = (*_OTHER_CORE, sys.executable, "-I", str(_SCRIPT))
    with cables.server("backend", _PORT, *python, "serve", str(_PORT)):
        process = subprocess.Popen(
            cables.command("client", *python, "fetch", str(count), str(_PORT), cables.vip),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                transfers = _Transfers(process, count)
                transfers.mark()
                time.sleep(_SETTLE)
                transfers.mark()
                yield transfers
            finally:
                process.terminate()


@contextmanager
def _under_way(cables: Cables, datapath: str) -> Iterator[tuple[Daemon, _Transfers]]:
    if (os.cpu_count() or 1) < _CORES:
        raise BenchError("transfers and what they endure have a core each: this machine has one")
    service = Served("transfers", _PORT, [f"{address}:{_PORT}" for address in cables.backends])
    text = config_text(datapath, cables.vip, [service])
    with running(cables, datapath, text) as control, _transfers(cables, _TRANSFERS) as transfers:
        yield control, transfers


def flood(
    cables: Cables, datapath: str, rounds: int, seconds: int, progress: Callable[[str], None]
) -> Iterator[Endured]:
    """SYNs from random clients to the port of the transfers, as many as a core can send.

    Raises:
        BenchError: something does not start, or no flood gets through to l4lb.
    """
    destination = Endpoint.parse(f"{cables.vip}:{_PORT}")
    cables.must("backend", "nft", "-f", "-", text=_QUIET_BACKEND)
    try:
        with _under_way(cables, datapath) as (_, transfers), sender(cables) as syns:
            for number in range(rounds):
                progress(f"round {number + 1}, flood, l4lb, {datapath}")
                transfers.mark()
                time.sleep(seconds)
                before = transfers.mark()
                passed = _passed(cables)
                sent = syns.flood(destination, seconds)
                during = transfers.mark()
                time.sleep(_SETTLE)
                count = transfers.intact
                lost, reasons = transfers.toll()
                yield Endured(
                    datapath,
                    "flood",
                    count,
                    lost,
                    during.silent,
                    reasons,
                    before.rate,
                    during.rate,
                    packets=sent.sent / sent.seconds,
                    passed=(_passed(cables) - passed) / sent.seconds,
                )
    finally:
        cables.must("backend", "nft", "delete", "table", "netdev", "bench")


def _passed(cables: Cables) -> int:
    """Packets of the flood that have come to the backend."""
    listed = json.loads(cables.must("backend", "nft", "--json", "list", "table", "netdev", "bench"))
    for entry in listed["nftables"]:
        for step in entry.get("rule", {}).get("expr", ()):
            if "counter" in step:
                return int(step["counter"]["packets"])
    raise BenchError("nft lists no counter")


def restart(
    cables: Cables, datapath: str, rounds: int, seconds: int, progress: Callable[[str], None]
) -> Iterator[Endured]:
    """The daemon is killed, is away for some time, and is started again.

    Raises:
        BenchError: something does not start.
    """
    with _under_way(cables, datapath) as (control, transfers):
        for number in range(rounds):
            progress(f"round {number + 1}, killed, l4lb, {datapath}")
            transfers.mark()
            time.sleep(seconds)
            before = transfers.mark()
            control.kill()
            time.sleep(seconds)
            away = transfers.mark()
            control.start()
            starting = transfers.mark()
            time.sleep(_SETTLE)
            count = transfers.intact
            lost, reasons = transfers.toll()
            yield Endured(
                datapath,
                "restart",
                count,
                lost,
                away.silent,
                reasons,
                before.rate,
                away.rate,
                starting=starting.rate,
            )
