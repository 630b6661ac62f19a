"""Long work in the event loop, in pieces: between them others have their turn, as checks whose answers are
there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

TURN: Final = 0.01
"""Seconds of work before others have a turn."""

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
        if clock() >= until:
            await asyncio.sleep(0)
            until = clock() + TURN
