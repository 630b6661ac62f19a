"""What a scheduler may know of a backend: measured in passing, and what its agent says."""

from __future__ import annotations

from dataclasses import dataclass

from l4lb.model import Load


@dataclass(frozen=True, slots=True)
class Measured:
    """One look at a backend: what it does now, and what was counted since the last look. Times in seconds.

    A request is outstanding from its first packet until the first packet of its answer. Half-open
    connections are not in here: their backend has answered the SYN or the datagram as a rule, and how
    long they stay so is the doing of their clients, who are far away, silent or forged. Whoever fills this
    in need not check it: what cannot be counts as 0.
    """

    outstanding: int = 0  # established connections that wait for an answer now
    idle: int = 0  # established connections that wait for nothing now
    waiting: float = 0.0  # how long the outstanding ones have waited by now, together
    opened: int = 0  # connections established, or of UDP answered, since the last look
    answers: int = 0  # answers begun since the last look
    answer_time: float = 0.0  # how long those were waited for, together
    silences: int = 0  # SYNs since the last look that were sent again, as the backend had not answered
    failures: int = 0  # connections since the last look that the backend reset or never answered
    probed: float = 0.0  # how long the answer to a probe has taken that came since the last look; 0: none
    hot: bool = False  # over a limit of CPU or memory, as its agent says


def between(before: Load, after: Load, *, hot: bool = False) -> Measured:
    """What a datapath's counters say at two looks, one after the other. The first look has nothing
    before it: ``Load()``. After a restart of the datapath, differences below 0 count as 0."""
    return Measured(
        outstanding=after.outstanding,
        idle=after.established - after.outstanding,
        waiting=after.waiting,
        opened=after.confirmed - before.confirmed,
        answers=after.answers - before.answers,
        answer_time=after.answer_time - before.answer_time,
        silences=after.retransmissions - before.retransmissions,
        failures=after.resets - before.resets + after.unanswered - before.unanswered,
        hot=hot,
    )
