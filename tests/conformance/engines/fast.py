"""The pure core with the fast path tried first, as the raw datapath's packet process does it."""

from __future__ import annotations

from l4lb.director.fastpath import fast_path
from l4lb.model import Verdict
from tests.conformance.engines.pure import PureEngine
from tests.conformance.world import Side


class FastEngine(PureEngine):
    """Established packets take one lookup; what the fast path does not take goes the clear way."""

    name = "fast"

    def reset(self) -> None:
        """See ``Engine``."""
        super().reset()
        self._fast = fast_path(self._director.table)
        self.taken = 0  # packets, of this case

    def _decide(self, buffer: bytearray, end: int, out: list[tuple[Side, bytes]]) -> Verdict:
        before = bytes(buffer)
        hop = self._fast(buffer, end, self._now)
        if hop is None:
            assert buffer == before, "the fast path changed a packet that it did not take"
            return super()._decide(buffer, end, out)
        self.taken += 1
        out.append((self._sides[hop.index], bytes(buffer[:end])))
        return Verdict.FORWARD
