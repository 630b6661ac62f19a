"""What a scheduler is given and what it is. The policies are the other files of this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from l4lb.model import Endpoint, Selection


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend that may take new connections.

    ``index`` is its place among the service's backends, which is what a selection holds.
    ``weight`` is relative to the other candidates; 0 means no new connections.
    """

    index: int
    address: Endpoint
    weight: int


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A policy by name.

    ``compile`` gets at least one candidate, all of positive weight, and returns the selection a
    datapath runs. It is pure: the same candidates in the same order give the same selection.
    """

    name: str
    description: str
    compile: Callable[[Sequence[Candidate]], Selection]
