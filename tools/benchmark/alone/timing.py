"""Time small pieces of Python, less the cost of what only surrounds them.

CPU time of this process, not time on the wall: what others do on the machine costs nothing here but
the caches they share.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import Final

from benchmark.figures.statistics import Spread, spread

REPEATS: Final = 7


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the garbage collector, as the packet process runs."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def seconds(step: Callable[[], None]) -> float:
    """CPU seconds that one call takes."""
    begun = process_time()
    step()
    return process_time() - begun


def each(
    work: Callable[[], None], frame_of_it: Callable[[], None], count: int, repeats: int = REPEATS
) -> Spread:
    """Seconds for each of the ``count`` things that ``work`` does, less what ``frame_of_it`` takes,
    which does all that ``work`` does around them."""
    with no_collector():
        return spread((seconds(work) - seconds(frame_of_it)) / count for _ in range(repeats))
