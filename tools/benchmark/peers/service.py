"""A service as every balancer is given it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Agents:
    """How the agents of a service's backends are asked.

    Attributes:
        port: of an agent, at its backend's address.
        key: the file with their key.
        interval: seconds between two questions to one of them.
    """

    port: int
    key: Path
    interval: float


@dataclass(frozen=True, slots=True)
class Served:
    """A service at the VIP.

    Attributes:
        name: of the service.
        port: at the VIP.
        backends: HOST:PORT.
        checked: the port at the backends where they are checked by TCP; None: not at all.
        scheduler: by its name in the config; None: the default.
        agents: None: the backends have none.
    """

    name: str
    port: int
    backends: Sequence[str]
    checked: int | None = None
    scheduler: str | None = None
    agents: Agents | None = None
