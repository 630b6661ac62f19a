"""How long to wait before something that died is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """No wait after a run that lasted, then waits that double. Times in seconds."""

    first: float = 0.5
    longest: float = 30.0
    lasting: float = 60.0
    _next: float = 0.0

    def after_run(self, lasted: float) -> float:
        """The wait after a run that lasted this long; 0 for one that never began."""
        wait = 0.0 if lasted >= self.lasting else self._next
        self._next = min(2 * wait, self.longest) or self.first
        return wait
