"""A packet case: a plan, and steps that every datapath must answer in the same way.

A case is a function that returns ``(plan, steps)``, decorated with ``packet_case``. Its name is the
case's name and its docstring says what is tested and why, with the source. Given the hosts of one
version of IP, it is a case for each version it is decorated with.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from l4lb.model import DropReason, Limits, Plan, Rule, State, Verdict
from l4lb.times import UNIT
from tests.conformance import cases
from tests.conformance.packets import IPV4, IPV6, VLAN_ID, Frame
from tests.conformance.world import NETS, Host, Net, Side


class Need(Enum):
    """What not every engine can give a case. Most of it shows in the case's plan and steps."""

    CLOCK = "clock that can be moved"
    STUBS = "frames without a whole IP header"
    PARTIAL_SUMS = "frames with partial checksums, nor GSO frames"
    PARTIAL_QUOTES = "quotes of frames with partial checksums as they came"
    SMALLER_SEGMENTS = "GSO frames whose segments are made smaller"
    SEVERAL_OUT = "several frames out for one that came in"
    HELD_FRAGMENTS = "fragments that wait for their first one"
    RESETS = "resets that nobody's packet asks for"
    REFUSED_HALF_OPEN = "half-open connections that are refused, or counted when they are pushed out"
    DECISIONS = "decisions that are kept of this case alone"
    EXACT_LIMITS = "small limits of affinity and fragments that are kept exactly"
    SHARED_PICKUP = "backends of several services whose lost connections are found again"
    HELD_SWEEP = "pause between a change of plan and the sweep through the connections"
    PRIORITY_TAGS = "tags that the kernel has taken out of frames"
    UDP_GSO = "UDP segmentation offload on packet sockets (Linux 6.2)"


@dataclass(frozen=True)
class Chosen:
    """A packet with a port that the engine is free to choose: the source port of the first such
    packet that comes out, which must be in ``among``, is the argument wherever it is used again."""

    make: Callable[[int], Frame]
    among: range = range(0)


Wire = Frame | Chosen


@dataclass(frozen=True)
class Row:
    """A connection as it should be in the table."""

    client: Host
    backend: Host
    state: State
    source: Host | None = None  # what the backend sees; None: the client


@dataclass(frozen=True)
class Send:
    """A packet comes in: what becomes of it.

    ``or_pass`` says that an engine may leave a malformed packet to the host, which drops it. ``host``
    are the packets that the gateway's own stack sends because it got this one, or one handed back.
    ``evicts`` counts the half-open connections that are pushed out.
    """

    packet: Wire
    verdict: Verdict
    out: tuple[Wire, ...] = ()
    reason: DropReason | None = None
    or_pass: bool = False
    handed_back: tuple[Frame, ...] = ()
    host: tuple[Frame, ...] = ()
    side: Side | None = None  # None: the side of its source address
    evicts: int = 0


@dataclass(frozen=True)
class Change:
    """A new plan comes into force."""

    plan: Plan


@dataclass(frozen=True)
class Sweep:
    """Housekeeping, ``seconds`` later: what it sends, and why it drops."""

    seconds: float
    out: tuple[Wire, ...]
    reasons: tuple[DropReason, ...]


@dataclass(frozen=True)
class Table:
    """All connections that there are now, in any order."""

    rows: tuple[Row | Callable[[int], Row], ...]


@dataclass(frozen=True)
class Traffic:
    """What a backend has been counted since the case began: packets, and bytes of IP."""

    backend: Host
    packets_in: int  # client -> backend
    packets_out: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True)
class Measured:
    """What was learnt of a backend since the case began."""

    backend: Host
    outstanding: int = 0  # now
    responses: int = 0
    handshakes: int = 0
    resets: int = 0
    retransmissions: int = 0
    unanswered: int = 0
    confirmed: int | None = field(default=None, compare=False)
    """Connections; None: however many."""
    average: float | None = field(default=None, compare=False)
    """Seconds, of the responses; None: whatever it is. Programs count in units, see ``close_to``."""

    def close_to(self, other: Measured) -> bool:
        """Whether two engines can have come to both averages, and to the same of what not every case names:
        in the programs each time is a unit too short at most, and their division loses another."""
        if None not in (self.confirmed, other.confirmed) and self.confirmed != other.confirmed:
            return False
        if self.average is None or other.average is None:
            return True
        return abs(self.average - other.average) <= 3 * UNIT


@dataclass(frozen=True)
class Decided:
    """A decision that was kept. ``best`` and ``runner_up`` are its offers: backend, whether it is hot,
    price, cost, connections in flight and idle."""

    client: Host
    backend: Host
    rule: Rule
    compared: int = 0
    best: tuple[Host, bool, int, int, int, int] | None = None
    runner_up: tuple[Host, bool, int, int, int, int] | None = None


@dataclass(frozen=True)
class Decisions:
    """All decisions that were kept since the case began, the oldest first."""

    kept: tuple[Decided, ...]


@dataclass(frozen=True)
class Remembered:
    """What is known of a client before anything is chosen for it (l4lb.model.Recalled)."""

    service: str
    client: Host
    connection: Host | None = None
    last: Host | None = None
    left: float | None = field(default=None, compare=False)
    """Seconds; None: however many."""


Step = Send | Change | Sweep | Table | Traffic | Measured | Decisions | Remembered
Steps = Sequence[Step | Sequence["Step"]]
Make = Callable[[Net], tuple[Plan, Steps]]


# -- the notation for steps ------------------------------------------------------------------------


def forward(packet: Wire, *out: Wire, side: Side | None = None, evicts: int = 0) -> Send:
    """It is translated and goes on, as one packet or several."""
    return Send(packet, Verdict.FORWARD, out, side=side, evicts=evicts)


def reply(packet: Wire, reason: DropReason, *out: Wire) -> Send:
    """It goes no further; the gateway answers."""
    return Send(packet, Verdict.REPLY, out, reason)


def drop(packet: Wire, reason: DropReason, *, or_pass: bool = False, side: Side | None = None) -> Send:
    """It goes no further, and nothing is said."""
    return Send(packet, Verdict.DROP, (), reason, or_pass, side=side)


def leave(packet: Wire, *out: Wire, host: Iterable[Frame] = (), handed_back: Iterable[Frame] = ()) -> Send:
    """It is not ours: the kernel gets it as it came. ``out`` is what the gateway says besides."""
    return Send(packet, Verdict.PASS, out, host=tuple(host), handed_back=tuple(handed_back))


def hold(packet: Wire) -> Send:
    """It waits for its first fragment."""
    return Send(packet, Verdict.HOLD)


def change(plan: Plan) -> Change:
    """A new plan."""
    return Change(plan)


def sweep(*out: Wire) -> Sweep:
    """The sweep that follows a change of plan."""
    return Sweep(0.0, out, ())


def wait(seconds: float, *reasons: DropReason) -> Sweep:
    """Time passes without a packet."""
    return Sweep(seconds, (), reasons)


def table(*rows: Row | Callable[[int], Row]) -> Table:
    """What is in the connection table."""
    return Table(rows)


def traffic(backend: Host, *, packets: tuple[int, int], bytes: tuple[int, int]) -> Traffic:
    """What is counted for a backend: (from clients, to clients)."""
    return Traffic(backend, *packets, *bytes)


def measured(backend: Host, *, average: float | None = None, **counts: int) -> Measured:
    """What is learnt of a backend."""
    return Measured(backend, **counts, average=average)


def decisions(*kept: Decided) -> Decisions:
    """What is kept of the choices made so far."""
    return Decisions(kept)


# -- the table of cases ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    topic: str
    make: Make
    net: Net
    needs: frozenset[Need]

    @property
    def about(self) -> str:
        """What is tested and why."""
        return inspect.getdoc(self.make) or ""

    def play(self) -> tuple[Plan, list[Step]]:
        """The plan, and the steps one after the other."""
        plan, steps = self.make(self.net)
        return plan, list(_flat(steps))

    def missing(self, offered: frozenset[Need]) -> frozenset[Need]:
        """What the case needs and an engine with these offers does not have."""
        plan, steps = self.play()
        needs = self.needs.union(*map(_needs, steps))
        if (plan.limits.affinity, plan.limits.fragments) != (Limits().affinity, Limits().fragments):
            needs |= {Need.EXACT_LIMITS}
        pushed_out = any(isinstance(step, Send) and step.evicts for step in steps)
        if pushed_out and plan.limits.half_open != Limits().half_open:
            needs |= {Need.REFUSED_HALF_OPEN}
        return needs - offered

    def __str__(self) -> str:
        return f"{self.topic}.{self.name}-{self.net}"


def _needs(step: Step) -> set[Need]:
    """What an engine must be capable of for one step."""
    needs = set()
    if isinstance(step, Decisions):
        needs.add(Need.DECISIONS)
    elif isinstance(step, Sweep):
        if step.seconds:
            needs.add(Need.CLOCK)
        if step.out:
            needs.add(Need.RESETS)
    elif isinstance(step, Send):
        if isinstance(step.packet, Frame):
            if step.packet.vlan is not None and not step.packet.vlan & VLAN_ID:
                needs.add(Need.PRIORITY_TAGS)
            if step.packet.vnet.partial:
                needs.add(Need.PARTIAL_SUMS)
                if step.verdict is Verdict.REPLY:
                    needs.add(Need.PARTIAL_QUOTES)
            if len(step.packet.packet) < {IPV4: 20, IPV6: 40}.get(step.packet.ethertype, 0):
                needs.add(Need.STUBS)
        if len(step.out) + (step.verdict is Verdict.PASS) > 1:
            needs.add(Need.SEVERAL_OUT)
        if step.verdict is Verdict.HOLD:
            needs.add(Need.HELD_FRAGMENTS)
        if step.reason is DropReason.HALF_OPEN_FULL:
            needs.add(Need.REFUSED_HALF_OPEN)
    return needs


def _flat(steps: Steps) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, Sequence):
            yield from step
        else:
            yield step


_CASES: Final[list[Case]] = []


def packet_case(*nets: Net, needs: Iterable[Need] = ()) -> Callable[[Make], Make]:
    """Put a function into the table, for these versions of IP (both if none is named)."""

    def add(make: Make) -> Make:
        topic = make.__module__.rpartition(".")[2]
        for net in nets or NETS:
            _CASES.append(Case(make.__name__, topic, make, net, frozenset(needs)))
        return make

    return add


def all_cases() -> list[Case]:
    """The whole table."""
    for module in pkgutil.iter_modules(cases.__path__, cases.__name__ + "."):
        importlib.import_module(module.name)
    return list(_CASES)
