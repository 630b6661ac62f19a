"""Several probes of one backend, one after the other, as a person watches them. Edge: the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from l4lb.health.probes.result import ProbeResult
from l4lb.health.probes.senders import Senders

Send = Callable[[Senders], Awaitable[ProbeResult]]
"""Sends one probe."""


def probe_times(
    count: int,
    interval: float,
    send: Send,
    take: Callable[[ProbeResult], None],
) -> dict[str, int]:
    """Probe ``count`` times, or until Ctrl-C, and hand over each result as it comes.

    Args:
        interval: seconds from the start of a probe to the start of the next, if it is over by then.
        send: sends one.
        take: is called with what it came to.

    Returns:
        How many answers were ``late`` and how many ``forged``.

    Raises:
        CannotProbe: this host does not let us.
    """
    senders = Senders()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_probe_times(senders, count, interval, send, take))
    return {"late": senders.late, "forged": senders.forged}


async def _probe_times(
    senders: Senders,
    count: int,
    interval: float,
    send: Send,
    take: Callable[[ProbeResult], None],
) -> None:
    try:
        for number in range(count):
            began = time.monotonic()
            take(await send(senders))
            if number < count - 1:
                await asyncio.sleep(max(0.0, began + interval - time.monotonic()))
    finally:
        senders.close()
