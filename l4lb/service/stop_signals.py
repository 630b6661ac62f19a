"""The signals that stop a process, and how it takes no notice of more of them while it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STOP: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ignored_at_the_end() -> Iterator[None]:
    """Ignore signals from the end of this block on, for good: who presses Ctrl-C twice gets no traceback.

    Used twice, around what an event loop runs and around the loop: closing a loop gives signals back
    their default actions, and between the two its handlers write to a pipe that is closed already.
    """
    try:
        yield
    finally:
        for number in (*STOP, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
