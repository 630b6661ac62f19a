"""An HTTP probe: a real request on a connection of its own, and the time to its answer's first byte.
Edge: sockets.

The request is the one of the health check. The time runs from the request, not from the SYN: connecting
is the kernels' business (see ``syn``). It ends when our kernel received the first segment of the answer,
or the last that was there when this process, if it was busy, came to read (``Exchange.first_byte``).
"""

from __future__ import annotations

from typing import Final

from l4lb.health.exchange import End, exchange
from l4lb.health.http_get import HttpGet
from l4lb.health.probes.result import CannotProbe, Outcome, ProbeKind, ProbeResult
from l4lb.model import Endpoint, HealthCheck
from l4lb.os_errors import in_words

_OUTCOMES: Final = {
    End.ANSWERED: Outcome.ANSWERED,
    End.WRONG: Outcome.WRONG,
    End.REFUSED: Outcome.REFUSED,
    End.LOST: Outcome.LOST,
    End.FAULT: Outcome.UNSENT,
}


async def probe(target: Endpoint, check: HealthCheck) -> ProbeResult:
    """Ask a backend over HTTP, connecting and answer together in at most ``check.timeout`` seconds: an
    answer that comes later finds the connection reset.

    Args:
        target: the address and port to connect to.
        check: timeout, path, host and good statuses; all else is not looked at.

    Raises:
        CannotProbe: no socket, for want of file descriptors for example.
    """
    try:
        get = HttpGet(target, check)
    except ValueError as error:
        return ProbeResult(Outcome.UNSENT, reason=str(error))
    try:
        made = await exchange(target, get, check.timeout, ProbeKind.HTTP.most)
    except OSError as error:
        raise CannotProbe(f"there can be no connection: {in_words(error)}") from None
    time = made.first_byte if made.end is End.ANSWERED else None
    return ProbeResult(_OUTCOMES[made.end], time, made.packets, made.reason)
