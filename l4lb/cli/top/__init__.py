"""``l4lb top``: services and backends live. The command loads the rest, and rich, when it is run."""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 0.2
LONGEST: Final = 60.0
"""Intervals between looks, seconds."""
