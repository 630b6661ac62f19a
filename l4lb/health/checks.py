"""One check of one backend: connect, or connect and ask over HTTP. Edge: sockets."""

from __future__ import annotations

from l4lb.health.exchange import End, exchange
from l4lb.health.http_get import HttpGet
from l4lb.health.rise_fall import Outcome, Result
from l4lb.model import Endpoint, HealthCheck
from l4lb.os_errors import in_words


async def run_check(target: Endpoint, check: HealthCheck) -> Result:
    """Check a backend once, ``within`` ``check.timeout`` seconds, connecting and answer together.

    Args:
        target: the address and port to connect to (``check.port`` was applied before).
        check: what to do; interval, rise and fall are not looked at.

    Raises:
        ValueError: ``check.check`` is neither "tcp" nor "http".
    """
    if check.check not in ("tcp", "http"):
        raise ValueError(f"'{check.check}' is not a check that can be made")
    try:
        get = HttpGet(target, check) if check.check == "http" else None
    except ValueError as error:
        return Result(Outcome.UNDECIDED, str(error))
    try:
        made = await exchange(target, get, check.timeout)
    except OSError as error:
        return _cannot_check(in_words(error))
    if made.fault is not None:
        return _cannot_check(made.reason, made.packets)
    if made.end is End.ANSWERED:
        return Result(Outcome.PASSED, latency=made.seconds, packets=made.packets)
    return Result(Outcome.FAILED, made.reason, packets=made.packets)


def _cannot_check(why: str, packets: int = 0) -> Result:
    return Result(Outcome.UNDECIDED, f"the gateway cannot check: {why}", packets=packets)
