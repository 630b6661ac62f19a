"""Whether established connections live through a SYN flood, which comes from the other core."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Final

from benchmark import BenchError
from benchmark.bpf.generator import sender
from benchmark.endurance.endured import Endured
from benchmark.endurance.under_way import PORT, SETTLE, under_way
from benchmark.lab.cables import Cables
from l4lb.model import Endpoint

# What would answer the flood is not what is tested, and would take the sender's time.
_QUIET_BACKEND: Final = """\
table netdev bench {
  chain ingress {
    type filter hook ingress device eth0 priority 0;
    ip saddr 10.128.0.0/9 counter drop
  }
}
"""


def flood(
    cables: Cables, datapath: str, rounds: int, seconds: int, progress: Callable[[str], None]
) -> Iterator[Endured]:
    """SYNs from random clients to the port of the transfers, as many as a core can send.

    Raises:
        BenchError, LabError: something does not start, or no flood gets through to l4lb.
    """
    destination = Endpoint.parse(f"{cables.vip}:{PORT}")
    cables.must("backend", "nft", "-f", "-", text=_QUIET_BACKEND)
    try:
        with under_way(cables, datapath) as (_, transfers), sender(cables) as syns:
            for number in range(rounds):
                progress(f"round {number + 1}, flood, l4lb, {datapath}")
                transfers.mark()
                time.sleep(seconds)
                before = transfers.mark()
                passed = _passed(cables)
                sent = syns.flood(destination, seconds)
                during = transfers.mark()
                time.sleep(SETTLE)
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
