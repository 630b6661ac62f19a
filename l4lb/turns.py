"""Long work in the event loop, in pieces: between them others have their turn, as checks whose answers are
there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

TURN: Final = 0.01
"""Seconds of work before others have a turn."""

LONGEST: Final = 0.05
"""Seconds of work at most, where others need that long for their turn: with thousands of checks under way
the work has half of the time, or it would hardly end."""

T = TypeVar("T")


async def in_turns(items: Iterable[T], clock: Callable[[], float] = time.monotonic) -> AsyncIterator[T]:
    """The items, with a turn for the others in the loop whenever to make them, and what is done with them,
    has taken long. What is looked at may change meanwhile.

    Args:
        items: none of which takes long by itself.
        clock: in seconds.
    """
    until = clock() + TURN
    for item in items:
        yield item
        if (now := clock()) >= until:
            await asyncio.sleep(0)
            others = clock() - now
            until = now + others + max(TURN, min(others, LONGEST))
