"""Signs of life for the service manager, which ends and starts again who gives none (``WatchdogSec=``).

What is asked is whether the work is done, not whether the process exists: an event loop that hangs sends
nothing, and what it looks after is asked before each sign.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from l4lb.service.notify import notify

log = logging.getLogger(__name__)


def patience(environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds that the manager waits for a sign; None: for none of ours. ``sd_watchdog_enabled(3)``."""
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", ""))
        of = int(environment.get("WATCHDOG_PID", "") or os.getpid())
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and of == os.getpid() else None


@asynccontextmanager
async def give_signs_of_life(alive: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
    """Within the block, send ``WATCHDOG=1`` four times as often as is needed, while ``alive`` says so.

    One that does not return is a no, too. The log says when it becomes a no, and when it no longer is.
    So often, that three quarters of the manager's patience are left for what has failed to be mended by us.
    """
    wait = patience()
    if wait is None:
        yield
        return
    signs = asyncio.create_task(_signs(alive, wait))
    try:
        yield
    finally:
        signs.cancel()
        await asyncio.wait((signs,))


async def _signs(alive: Callable[[], Awaitable[bool]], wait: float) -> None:
    well = True
    while True:
        was, well = well, await _ask(alive, wait / 2)
        if well:
            notify("WATCHDOG=1")
            if not was:
                log.warning("the work is done again")
            await asyncio.sleep(wait / 4)
        else:
            if was:
                log.error("the work is not done: the service manager will end this process if that lasts")
            await asyncio.sleep(wait / 8)


async def _ask(alive: Callable[[], Awaitable[bool]], deadline: float) -> bool:
    try:
        async with asyncio.timeout(deadline):
            return await alive()
    except TimeoutError:
        return False
    except Exception:
        log.exception("it cannot be said whether the work is done")
        return False
