"""Which answer belongs to which SYN probe. Pure: segments and times in, verdicts out.

A segment answers a probe if it comes from the backend's address and port to the port the SYN left
from, and acknowledges the SYN's sequence number (RFC 9293 3.10.7.3: in SYN-SENT any other
acknowledgement, and a RST without one, is not acceptable). That number is random: who has not seen the SYN
guesses it once in four thousand million times.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from l4lb.health.probes.segments import Segment
from l4lb.model import Endpoint
from l4lb.wire import tcp

MEMORY: Final = 60.0
"""Seconds for which a probe is remembered after its begin, so that a late answer is known as one: longer
than a kernel goes on sending SYN/ACKs (tcp_synack_retries)."""


REPEATS: Final = 6
"""Of an answer, that are counted: a kernel's are five, and who makes up more is not to use up a budget."""


class Verdict(Enum):
    """What a segment is to us."""

    ANSWER = auto()  # SYN/ACK
    REFUSAL = auto()  # RST
    LATE = auto()  # either, after the probe was given up
    FORGED = auto()  # acknowledges what we have not sent, or nothing
    REPEATED = auto()  # either, once more
    FOREIGN = auto()  # to no probe that we remember


class Flow(NamedTuple):
    """The two ends of a probe; our address is not needed, for our ports are ours on all addresses."""

    target: Endpoint
    port: int  # ours


class _State(Enum):
    WAITING = auto()
    ANSWERED = auto()
    GIVEN_UP = auto()


@dataclass(slots=True, eq=False)
class _Handshake:
    flow: Flow
    sequence: int
    began: float
    state: _State = _State.WAITING
    repeats: int = 0


class Handshakes:
    """The SYN probes under way and those just over. Times are seconds on one clock."""

    def __init__(self) -> None:
        self._latest: dict[Flow, _Handshake] = {}
        self._by_age: deque[_Handshake] = deque()
        self.late = 0  # answers that came after their probe was given up
        self.forged = 0
        self.repeated = 0  # answers that came once more: our kernel's RST has not arrived

    def waits(self, flow: Flow) -> bool:
        """Whether a probe between these ends is under way."""
        known = self._latest.get(flow)
        return known is not None and known.state is _State.WAITING

    def begin(self, flow: Flow, sequence: int, now: float) -> None:
        """A SYN is about to leave. One that was sent between these ends before is forgotten."""
        while self._by_age and self._by_age[0].began < now - MEMORY:
            old = self._by_age.popleft()
            if self._latest.get(old.flow) is old:
                del self._latest[old.flow]
        self._latest[flow] = handshake = _Handshake(flow, sequence, now)
        self._by_age.append(handshake)

    def give_up(self, flow: Flow) -> None:
        """No answer has come in time."""
        if self.waits(flow):
            self._latest[flow].state = _State.GIVEN_UP

    def receive(self, segment: Segment) -> Verdict:
        """What a segment is; an answer or a refusal ends its probe."""
        known = self._latest.get(Flow(segment.source, segment.port))
        refuses = bool(segment.flags & tcp.RST)
        if known is None or not (refuses or segment.flags & tcp.SYN):
            return Verdict.FOREIGN
        expected = (known.sequence + 1) & 0xFFFF_FFFF
        if not segment.flags & tcp.ACK or segment.acknowledgement != expected:
            self.forged += 1
            return Verdict.FORGED
        if known.state is _State.ANSWERED:
            if known.repeats < REPEATS:
                known.repeats += 1
                self.repeated += 1
            return Verdict.REPEATED
        late = known.state is _State.GIVEN_UP
        known.state = _State.ANSWERED
        if late:
            self.late += 1
            return Verdict.LATE
        return Verdict.REFUSAL if refuses else Verdict.ANSWER
