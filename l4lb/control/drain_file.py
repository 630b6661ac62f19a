"""Keeps in a file the weights that drained backends had, for the daemon that comes after."""

from __future__ import annotations

from pathlib import Path

from l4lb.control.backend_file import BackendFile
from l4lb.model import MAX_WEIGHT


class DrainFile(BackendFile[int]):
    """The weights of backends that are drained; ``{"service": {"address": weight}}``."""

    def __init__(self, path: Path) -> None:
        """Read the file. One that is missing or damaged counts as empty."""
        super().__init__(
            path,
            from_json=_weight,
            to_json=int,
            if_lost="backends that are drained go back to weight 1",
            what="the weights of drained backends are",
        )


def _weight(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_WEIGHT:
        raise ValueError("not a weight")
    return value
