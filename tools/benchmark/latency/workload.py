"""What clients are going to do, fixed before they begin. Pure.

The times at which requests come do not depend on answers (an open loop), and neither does the work each
of them asks for. All balancers of a round get the very same requests, so that what differs is what they
have done with them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

SERVICE_TIME: Final = 0.1
"""Mean work of a request, in seconds of one worker; exponential."""

WARM_UP: Final = 4.0
"""Seconds of requests before those that count: queues and measurements begin empty, and the first
requests would say how a balancer starts and not how it goes on."""


@dataclass(frozen=True, slots=True)
class Clients:
    """How clients behave.

    Attributes:
        requests: of each connection; 1 is a new connection for each request.
        patience: seconds after which a try is given up.
        tries: of a request, all of them together.
    """

    requests: int = 1
    patience: float = 10.0
    tries: int = 1

    @property
    def longest(self) -> float:
        """Seconds after which a request is answered or lost."""
        return self.patience * self.tries


def arrivals(rate: float, seconds: float, seed: int) -> list[tuple[float, float]]:
    """When each request comes (seconds, from -WARM_UP on; those from 0 on count), and its work (seconds).

    Args:
        rate: mean requests a second; a Poisson process.
        seconds: that count.
        seed: the same one gives the same requests.
    """
    chance = random.Random(seed)
    requests = []
    time = -WARM_UP + chance.expovariate(rate)
    while time < seconds:
        requests.append((time, chance.expovariate(1 / SERVICE_TIME)))
        time += chance.expovariate(rate)
    return requests
