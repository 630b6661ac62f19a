"""Whether established connections live through the death of the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from benchmark.endurance.endured import Endured
from benchmark.endurance.under_way import SETTLE, under_way
from benchmark.lab.cables import Cables
from benchmark.peers.l4lb import start_again


def restart(
    cables: Cables, datapath: str, rounds: int, seconds: int, progress: Callable[[str], None]
) -> Iterator[Endured]:
    """The daemon is killed, is away for some time, and is started again.

    Raises:
        BenchError, LabError: something does not start.
    """
    with under_way(cables, datapath) as (control, transfers):
        for number in range(rounds):
            progress(f"round {number + 1}, killed, l4lb, {datapath}")
            transfers.mark()
            time.sleep(seconds)
            before = transfers.mark()
            control.kill()
            time.sleep(seconds)
            away = transfers.mark()
            start_again(control)
            starting = transfers.mark()
            time.sleep(SETTLE)
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
