"""The interface every datapath has, whatever runs underneath.

The control plane knows this file and nothing below it. A datapath owns the connection table; the
control plane owns what should be (the plan) and asks what is (counters, connections).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from l4lb.model import (
    BackendKey,
    ConnectionInfo,
    Costs,
    Counters,
    Decision,
    Endpoint,
    Limits,
    Load,
    Plan,
    Recalled,
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a datapath can do, shown by ``l4lb status`` and never hidden."""

    name: str  # raw | tc | xdp
    survives_daemon: bool = False  # traffic flows while the daemon is away
    restores_connections: bool = False  # connections outlive a stop and a start
    needs_forwarding: bool = False  # by the kernel (net.ipv4.ip_forward), or services do not work
    most_compared: int | None = None  # backends, for one connection by costs; None: all
    made_for: Limits | None = None  # its tables, until all of it is removed; None: for what a plan says

    def unmet(self, limits: Limits) -> dict[str, int]:
        """Those of the limits, by name, that come into force when the tables are made anew, and what is in
        force until then. To have fewer established connections than there is room for, none has to be."""
        if self.made_for is None:
            return {}
        made_for, wanted = dataclasses.asdict(self.made_for), dataclasses.asdict(limits)
        wanted["established"] = max(wanted["established"], made_for["established"])
        return {name: number for name, number in made_for.items() if number != wanted[name]}


@dataclass(frozen=True, slots=True)
class ConnectionFilter:
    """Which connections are meant; None matches all."""

    service: str | None = None
    backend: Endpoint | None = None
    client: bytes | None = None  # packed address


class DatapathError(Exception):
    """A datapath could not do what was asked. The message is one line for people."""


class Datapath(Interface):
    """A running datapath, as the control plane sees it."""

    @property
    def capabilities(self) -> Capabilities:
        """What this datapath can do."""
        ...

    @property
    def took_over(self) -> bool:
        """Whether one before it has left connections, which this one has taken over or is going to: they
        are not to go because its start fails."""
        ...

    async def attach(self, interfaces: Sequence[str]) -> None:
        """Start taking packets on these interfaces; the ones missing now are taken when they come.

        Raises:
            DatapathError: the datapath cannot run here; nothing of it is left behind.
        """
        ...

    async def apply(self, plan: Plan) -> None:
        """Make the plan true. Connections of backends that stay are not touched."""
        ...

    async def reweigh(self, costs: Mapping[str, Costs]) -> None:
        """Other costs, by service, for the backends that the plan has them for. Cheap enough to be done
        many times a second; the next plan brings its own. A service that the plan does not have, or does
        not choose by costs for, is left as it is."""
        ...

    async def counters(self) -> Counters:
        """A snapshot of all counters."""
        ...

    async def loads(self, services: Collection[str]) -> dict[BackendKey, Load]:
        """How the backends of these services are doing."""
        ...

    async def decisions(self) -> list[Decision]:
        """Some of the choices that were made for new connections, the oldest first: see
        ``l4lb.model.DECISIONS_KEPT``."""
        ...

    async def recall(self, service: str, client: Endpoint) -> Recalled:
        """What goes before the selection for this client of a service: nothing, of one that is not in the
        plan. To look changes nothing."""
        ...

    async def connections(self, which: ConnectionFilter, limit: int) -> tuple[list[ConnectionInfo], int]:
        """Up to ``limit`` connections that match, in no order, and how many match. Of more, which ones is
        up to the datapath: those with the latest packet where it costs little to find them."""
        ...

    async def flush(self, which: ConnectionFilter) -> int:
        """Reset and forget the connections that match; how many there were."""
        ...

    async def details(self) -> Mapping[str, str]:
        """Facts for ``l4lb status``: interfaces, modes, queue fill. Words to words."""
        ...

    async def wait_failed(self) -> str:
        """Return, with the reason in one line, only if the datapath has died."""
        ...

    async def close(self, *, hold: bool) -> None:
        """Stop. ``hold`` keeps what a restart needs (connections saved, the host's stack kept
        silent for a short while); without it nothing of l4lb is left on the host."""
        ...
