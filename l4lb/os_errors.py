"""Errors of the operating system in words for people."""

from __future__ import annotations

import os


def in_words(error: OSError) -> str:
    """As in ``connection refused``. Not ``strerror``: asyncio puts words of its own there."""
    return os.strerror(error.errno).lower() if error.errno else str(error)
