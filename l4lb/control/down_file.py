"""Keeps in a file which backends are down, for the daemon that comes after."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from l4lb.control.backend_file import BackendFile, table
from l4lb.health.runner import Down


class DownFile(BackendFile[Down]):
    """The backends that are down; ``{"service": {"address": {"check": .., "since": .., "reason": ..}}}``.

    In the file the time is the wall clock's, which goes on through a boot; with us it is monotonic.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. One that is missing or damaged counts as empty."""
        ahead = time.time() - time.monotonic()

        def from_json(value: object) -> Down:
            match table(value):
                case {"check": str(check), "since": float(since), "reason": str(reason)} if math.isfinite(
                    since
                ):
                    return Down(check, since - ahead, reason)
            raise ValueError("nothing that is down")

        def to_json(down: Down) -> dict[str, Any]:
            return {"check": down.check, "since": down.since + ahead, "reason": down.reason}

        super().__init__(
            path,
            from_json=from_json,
            to_json=to_json,
            if_lost="backends that are down get new connections until their first check",
            what="which backends are down is",
        )
