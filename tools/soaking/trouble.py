"""What happens to the backends meanwhile.

Each trouble makes one step after the other and yields the seconds until the next; in the end all is as
before.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from typing import Final

from soaking.config import SERVICES, Service
from soaking.field import Field

Trouble = Callable[[Field, random.Random], Iterator[float]]


def servers_crash(field: Field, rng: random.Random) -> Iterator[float]:
    """All of a backend, long enough to be found down."""
    backend = rng.choice(field.backends)
    field.servers.kill(backend)
    yield rng.uniform(0.3, 2.5)
    field.servers.start(backend)
    yield 1.0


def servers_stall(field: Field, rng: random.Random) -> Iterator[float]:
    """All of a backend: its kernel still accepts."""
    backend = rng.choice(field.backends)
    field.servers.signal(backend, signal.SIGSTOP)
    yield rng.uniform(0.5, 3)
    field.servers.signal(backend, signal.SIGCONT)
    yield 0.5


def a_busy_backend_is_removed(field: Field, rng: random.Random) -> Iterator[float]:
    """And comes back: at once, or when its connections would have timed out."""
    service, address = _one(field, rng)
    field.client.delete("services", service.name, "backends", address)
    yield rng.choice((0.0, 0.5, 6.0))
    field.client.post("services", service.name, "backends", body={"address": address, "weight": 1})
    yield 0.5


def a_busy_backend_drains(field: Field, rng: random.Random) -> Iterator[float]:
    """For a moment."""
    service, address = _one(field, rng)
    for action in ("drain", "enable"):
        field.client.patch("services", service.name, "backends", address, body={"action": action})
        yield rng.uniform(0.2, 2)


def the_config_is_read_again(field: Field, rng: random.Random) -> Iterator[float]:
    """With nothing new in it."""
    field.client.post("reload")
    yield 0.5


TROUBLES: Final[tuple[Trouble, ...]] = (
    servers_crash,
    servers_stall,
    a_busy_backend_is_removed,
    a_busy_backend_drains,
    the_config_is_read_again,
)


def _one(field: Field, rng: random.Random) -> tuple[Service, str]:
    service = rng.choice(SERVICES)
    return service, field.address(service, rng.choice(field.backends))
