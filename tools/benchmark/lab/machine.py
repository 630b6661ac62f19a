"""The machine, of which one benchmark at a time can have the time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmark import BenchError
from netlab import record
from netlab.command import find
from netlab.lab import Lab, own

_LOCK: Final = Path("/run/l4lb-bench.lock")


@contextmanager
def only_bench(prefix: str, programs: Sequence[str]) -> Iterator[Lab]:
    """The only benchmark on this machine; a lab that is down before and after.

    Args:
        prefix: of the lab.
        programs: that there have to be.

    Raises:
        BenchError: this machine cannot run one.
        LabError: a program is not installed, another benchmark runs, or another tool has the lab.
    """
    if os.geteuid() != 0:
        raise BenchError("balancers are measured on network namespaces: run it as root")
    for program in programs:
        find(program)
    busy = "another benchmark runs on this machine: wait for its end"
    with record.held(_LOCK, busy), own(prefix) as lab:
        yield lab
