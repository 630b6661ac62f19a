"""How many small packets a second one core takes through each balancer, on the cables, and how many
handshakes of three: new connections without the two ends' TCP, which takes most of the time of those of
real programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from benchmark.bpf.generator import ready
from benchmark.figures.metrics import Measurement
from benchmark.figures.statistics import rotated
from benchmark.lab.cables import Cables
from benchmark.lab.cores import load_average
from benchmark.peers.peers import PEERS
from l4lb.model import Endpoint

LOAD: Final = "small_packets"

_OPENED: Final = 40_000
"""Connections of a turn, each time others: nftables' gateway remembers those of the turns before, and has
room for 262,144."""


def measure(
    cables: Cables,
    peers: Sequence[str],
    flows: int,
    rounds: int,
    seconds: int,
    progress: Callable[[str], None],
) -> Iterator[Measurement]:
    """Every peer in every round, with so many established TCP connections whose ACKs come in turn.

    Raises:
        BenchError, LabError: a balancer does not start, loses a handshake or leaves something behind.
    """
    for number in range(rounds):
        for name in rotated(peers, number):
            progress(f"round {number + 1}, {PEERS[name].title}")
            cables.check_clean()
            with PEERS[name].serve(cables) as frontend, ready(cables) as generator:
                destination = Endpoint.parse(frontend.web[0])
                generator.connect(destination, flows)
                busy = load_average()
                sent = generator.blast(destination, flows, seconds)
                took = generator.connect(destination, _OPENED, begin=flows + number * _OPENED)
            values = {
                "opened": _OPENED / took,
                LOAD: sent.received / sent.seconds,
                f"{LOAD}_lost": 100 * (1 - sent.received / sent.sent),
            }
            errors = {} if sent.received else {"no packet came through": 1}
            yield Measurement(number + 1, name, LOAD, values, errors, None, busy)
    cables.check_clean()
