"""What a run is made of, and what two engines are asked after each step."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from l4lb.model import DropReason, Plan
from tests.conformance.engines.engine import Engine, Result
from tests.conformance.packets import VNET
from tests.conformance.world import Host, Side

_SHOWN: Final = 120
"""Bytes of a frame that are shown: all headers."""


@dataclass(frozen=True)
class Packet:
    """A frame, virtio-net header in front, comes in."""

    side: Side
    frame: bytes


@dataclass(frozen=True)
class Wait:
    """Time passes, and housekeeping is done."""

    seconds: float


@dataclass(frozen=True)
class Replan:
    """Another plan comes into force. ``forget``: of what went away no connection is left."""

    plan: Plan
    forget: bool


class Subject(Engine):
    """An engine that a run is played on."""

    @abstractmethod
    def forget_gone(self) -> None:
        """Forget the connections that are to be reset, as their backends or services went away."""


Step = Packet | Wait | Replan


@dataclass(frozen=True)
class Run:
    """A plan, and what happens under it."""

    plan: Plan
    steps: Sequence[Step]


def begin(engine: Subject, plan: Plan) -> None:
    """Play from a clean start."""
    engine.reset()
    engine.configure(plan)


def take(engine: Subject, step: Step) -> Result:
    """Play one step."""
    match step:
        case Packet():
            return engine.send(step.frame, step.side)
        case Wait():
            return engine.sweep(step.seconds, 0)
        case Replan():
            engine.configure(step.plan)
            if step.forget:
                engine.forget_gone()
            return Result(None, (), Counter[DropReason]())


def difference(one: Result, other: Result) -> str | None:
    """What two engines do differently, in words; None if they agree."""
    if one.verdict is not other.verdict:
        return (
            f"the verdict: {_name(one.verdict)} ({_names(one.reasons)}) and "
            f"{_name(other.verdict)} ({_names(other.reasons)})"
        )
    if (one.reasons or other.reasons) and one.reasons != other.reasons:
        return f"the reasons: {_names(one.reasons)} and {_names(other.reasons)}"
    if len(one.out) != len(other.out):
        return f"{len(one.out)} and {len(other.out)} frames out"
    for (side, frame), (other_side, other_frame) in zip(one.out, other.out, strict=True):
        if side is not other_side:
            return f"the side: {side.value} and {other_side.value}"
        if frame != other_frame:
            return f"the frame:\n  {frame[VNET:][:_SHOWN].hex()}\n  {other_frame[VNET:][:_SHOWN].hex()}"
    return None


def table_difference(one: Subject, other: Subject) -> str | None:
    """In which connections two engines differ; None if they have the same."""
    rows, other_rows = (
        {f"{row.client} {row.source} {row.backend} {row.state.label}" for row in engine.connections()}
        for engine in (one, other)
    )
    if rows == other_rows:
        return None
    only, other_only = sorted(rows - other_rows), sorted(other_rows - rows)
    return f"connections: only {only} and only {other_only}"


def counters_difference(one: Subject, other: Subject, plan: Plan) -> str | None:
    """For which backends of the plan in force two engines have not counted the same; None if for none."""
    backends = {
        Host(each.address.host, each.address.port) for service in plan.services for each in service.backends
    }
    for backend in sorted(backends):
        counted = one.traffic(backend), one.measured(backend)
        other_counted = other.traffic(backend), other.measured(backend)
        if counted != other_counted or not counted[1].close_to(other_counted[1]):
            return f"the counters: {counted} and {other_counted}"
    return None


def _name(verdict: object) -> str:
    return getattr(verdict, "name", "none")


def _names(reasons: Counter[DropReason]) -> str:
    return ", ".join(sorted(f"{reason.name} x{count}" for reason, count in reasons.items())) or "none"
