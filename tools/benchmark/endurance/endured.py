"""What came of a round."""

from __future__ import annotations

from dataclasses import dataclass


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
