"""Programs that the daemon runs, out of reach of the signals that stop the daemon itself.

A terminal's Ctrl-C goes to the whole process group, a service manager's SIGTERM to the whole control
group. The daemon gets it too and decides: ending nft or tc under way, by an impatient second Ctrl-C
say, would leave packets dropped that nobody takes any more. SIGABRT is what the manager sends to a group
whose daemon gives no sign of life: the packet process has connections to save.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any, Final

_STOPPING: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGABRT)


async def start_child(*command: str, **streams: Any) -> asyncio.subprocess.Process:
    """Start a program with those signals blocked; ``streams`` are Popen's.

    Raises:
        OSError: it cannot be started.
    """
    # A child inherits the mask. A session of its own would not do: until it has one, and that is after
    # its start, the signals still reach it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        return await asyncio.create_subprocess_exec(*command, **streams)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
