"""What l4lb says of itself while a scene is played, asked as a user would."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from netlab import LabError
from netlab.daemon import Daemon


@dataclass(slots=True)
class Observed:
    """Of one turn.

    Attributes:
        probes: packets of probes for each packet forwarded; None: nobody probes by a budget.
        explained: the words of ``l4lb explain``; None: nobody was asked.
    """

    probes: float | None = None
    explained: str | None = None


@contextmanager
def observed(daemon: Daemon | None, client: str, service: str, when: float) -> Iterator[Observed]:
    """Ask l4lb during the block; what it has said is there at its end.

    Args:
        daemon: None: another balancer is at work, and nobody is asked.
        client: whose next connection is to be explained.
        service: to which.
        when: of the monotonic clock, explained it is to be. Where the block ends before, it is not.

    Raises:
        LabError: l4lb does not answer.
    """
    result = Observed()
    if daemon is None:
        yield result
        return
    before = _packets(daemon)
    failures: list[LabError] = []
    ended = threading.Event()

    def explain() -> None:
        if not ended.wait(when - time.monotonic()):
            try:
                result.explained = daemon.ask("explain", f"{client}:40000", service)
            except LabError as error:
                failures.append(error)

    thread = threading.Thread(target=explain)
    thread.start()
    try:
        yield result
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]
    probes, forwarded = (after - was for after, was in zip(_packets(daemon), before, strict=True))
    result.probes = probes / forwarded if forwarded else None


def _packets(daemon: Daemon) -> tuple[int, int]:
    """Of probes, and forwarded, since it has started."""
    probes = json.loads(daemon.ask("status", "--json"))["probes"]
    return probes["packets"], probes["forwarded_packets"]
