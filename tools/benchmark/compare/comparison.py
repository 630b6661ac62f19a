"""l4lb and its peers under the same loads, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmark.compare.loads import LOADS, place
from benchmark.figures.metrics import Measurement
from benchmark.figures.statistics import rotated
from benchmark.lab.cores import load_average
from benchmark.lab.site import Site
from benchmark.peers.peers import PEERS

Progress = Callable[[str], None]
"""Called after each step with what comes next."""


def steps(peers: Sequence[str], loads: Sequence[str], rounds: int) -> int:
    """How often ``compare`` reports progress."""
    return rounds * len(peers) * len(loads)


def compare(
    site: Site,
    peers: Sequence[str],
    loads: Sequence[str],
    rounds: int,
    seconds: int,
    progress: Progress,
) -> Iterator[Measurement]:
    """Every peer under every load in every round; a peer runs only in its own turns.

    All peers have a load one after the other, started anew for it each time: what is compared is of the
    same minute or two, as this machine is another one ten minutes later.

    Raises:
        BenchError, LabError: a balancer does not start, does not balance, or leaves something behind.
    """
    for number in range(rounds):
        for load in loads:
            for name in rotated(peers, number):
                progress(f"round {number + 1}, {load}: {PEERS[name].title}")
                site.check_clean()
                site.next_client()
                with place(site, load), PEERS[name].serve(site) as frontend:
                    site.wait_serving(frontend)
                    busy = load_average()
                    outcome = LOADS[load](site, frontend, seconds)
                yield Measurement(
                    round=number + 1,
                    peer=name,
                    load=load,
                    values=outcome.values,
                    errors=outcome.errors,
                    retransmits=outcome.retransmits,
                    load_average=busy,
                )
    site.check_clean()
