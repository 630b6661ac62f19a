"""How long to wait before something that died is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Waits that double with each failure and start over once a run has lasted. Times in seconds."""

    first: float = 0.5
    longest: float = 30.0
    forgiven_after: float = 60.0
    _next: float = 0.0

    def after_run(self, lasted: float) -> float:
        """The wait after a run that lasted this long; 0 for one that never began."""
        if lasted >= self.forgiven_after or not self._next:
            self._next = self.first
        wait = self._next
        self._next = min(2 * wait, self.longest)
        return wait
