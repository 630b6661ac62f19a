"""Where the packet process spends its time under each load.

CPU time and packets come from the kernel's and l4lb's own counters. Where perf or py-spy is
installed they say more, each in a run of its own because they slow what they look at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark import BenchError
from benchmark.compare.loads import LOADS, place
from benchmark.lab.cores import CORE, EVERYWHERE, stay
from benchmark.lab.site import Site
from benchmark.peers.l4lb import running
from benchmark.peers.peers import our_config
from netlab.daemon import Daemon

_TICK: Final = os.sysconf("SC_CLK_TCK")  # of the times in /proc/PID/stat, a second

# Functions of the kernel whose share of the samples, with all they call, tells where the time goes.
_KERNEL: Final = {
    "__sys_sendto": "sending, in all",
    "do_softirq.part.0": "of it, delivery to the receiver (veth does that in the sender's time)",
    "tcp_v4_rcv": "of that, the receiver's TCP",
    "__sys_recvfrom": "receiving",
    "do_epoll_wait": "waiting",
    "_PyEval_EvalFrameDefault": "the Python interpreter's loop itself",
}
_LINES: Final = 12  # of Python shown


@dataclass(frozen=True, slots=True)
class Hotspots:
    """One load. Times of the packet process."""

    load: str
    seconds: float  # on the wall
    user: float  # seconds of CPU
    system: float
    packets: int
    kernel: list[tuple[str, float]]  # what, share of the samples
    python: list[tuple[str, float]]  # function and line, share of the samples


def _cpu(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICK, int(fields[12]) / _TICK


def _packets(control: Daemon) -> int:
    return int(json.loads(control.ask("status", "--json"))["verdicts"]["forward"])


def _py_spy() -> str | None:
    return shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def missing() -> list[str]:
    """What cannot be shown on this machine, and why."""
    lines = []
    if shutil.which("perf") is None:
        lines.append("no kernel functions: perf is not installed (package linux-perf)")
    if _py_spy() is None:
        lines.append("no lines of Python: py-spy is not installed (pip install py-spy, in .venv)")
    return lines


def _with(command: Sequence[str], load: Callable[[], object]) -> None:
    profiler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    stay(profiler.pid, EVERYWHERE - {CORE} or EVERYWHERE)  # not where it looks
    try:
        load()
        complaint = profiler.communicate(timeout=30)[1]
    except BaseException:
        profiler.kill()
        profiler.communicate()
        raise
    if profiler.returncode:
        raise BenchError(f"{Path(command[0]).name} failed: {complaint.strip()}")


def _kernel(pid: int, seconds: int, load: Callable[[], object], file: Path) -> list[tuple[str, float]]:
    if shutil.which("perf") is None:
        return []
    record = ("perf", "record", "-q", "-e", "cpu-clock", "-F", "499", "-g", "-p", str(pid))
    _with((*record, "-o", str(file), "--", "sleep", str(seconds)), load)
    report = ("perf", "report", "-i", str(file), "--children", "--sort", "symbol", "-g", "none", "--stdio")
    shown = subprocess.run(report, capture_output=True, text=True, check=False).stdout
    shares = {}
    for line in shown.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[0].endswith("%") and fields[3] in _KERNEL:
            shares[fields[3]] = float(fields[0].rstrip("%")) / 100
    return [(what, shares[symbol]) for symbol, what in _KERNEL.items() if symbol in shares]


def _python(pid: int, seconds: int, load: Callable[[], object], file: Path) -> list[tuple[str, float]]:
    spy = _py_spy()
    if spy is None:
        return []
    command = (spy, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", "200")
    _with((*command, "--nonblocking", "--format", "raw", "--output", str(file)), load)
    lines: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        lines[stack.rpartition(";")[2]] += int(count)
    total = lines.total() or 1
    return [(line, count / total) for line, count in lines.most_common(_LINES)]


def look(
    site: Site, loads: Sequence[str], seconds: int, progress: Callable[[str], None]
) -> Iterator[Hotspots]:
    """Each load in turn, with a fresh l4lb.

    Raises:
        BenchError: a load or a profiler fails.
        LabError: l4lb does.
    """
    for name in loads:
        progress(name)
        site.next_client()
        with place(site, name), running(site, "raw", our_config(site, "raw")) as control:
            site.wait_serving(site.at_vip)
            details = json.loads(control.ask("status", "--json"))["datapath"]["details"]
            pid = int(details["packet process"])

            def load(name: str = name) -> None:
                outcome = LOADS[name](site, site.at_vip, seconds)
                if outcome.errors:
                    raise BenchError(f"{name}: {outcome.errors}")

            packets, cpu, begun = _packets(control), _cpu(pid), time.monotonic()
            load()
            took, used, forwarded = time.monotonic() - begun, _cpu(pid), _packets(control)
            site.next_client()
            kernel = _kernel(pid, seconds, load, site.directory / "perf.data")
            site.next_client()
            python = _python(pid, seconds, load, site.directory / "py-spy.txt")
        yield Hotspots(name, took, used[0] - cpu[0], used[1] - cpu[1], forwarded - packets, kernel, python)
