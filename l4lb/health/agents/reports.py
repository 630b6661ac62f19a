"""What the agents of all backends have said, how old it is, and what is believed of it. Pure.

Time is the caller's monotonic ``now``; nothing an agent says about time is used. What is believed:

- Bad news at once, good news slowly. A figure that rises is taken as it is, one that falls decays with a
  time constant of ``DAMPING`` intervals. A backend is *hot* above a limit, and no more once the figure has
  come down to ``COOL`` of it. So an agent that says 95% and 0% in turns is hot all the time, and moves no
  traffic to and fro.
- A wish to drain, or a service that is down, at once, and neither takes the other back; the way back when
  it was said twice in a row.
- A figure that is missing, when it was missing ``LOST`` times in a row: until then it is as it was.
- A percentage of the weight, which HAProxy's agents say, in steps: those that follow a load average say
  another one each time. One that falls at once, one that rises as far as it was said ``RISE`` times in a
  row. HAProxy lets an agent raise a weight above the configured one, and so do we not: its line has no key,
  and with 25600% one would draw all connections to itself.
- Nothing for ever: a report is stale and not used after ``LOST`` questions without an answer. Questions,
  not intervals: where the budget has not enough for all agents they are asked less often, and the word of
  one that always answers must not come and go.

All an agent can do by lying is to take its own backend out of the choice, or to keep it in: the health
checks do not ask here, and one that fails is not overridden. Agents that say that nothing is up take
nothing out: see ``Wish``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from l4lb.agent.haproxy_line import Line
from l4lb.agent.report import LARGEST, Administrative, Figures, Operating, Report
from l4lb.model import AgentCheck, BackendKey, Endpoint

DAMPING: Final = 5.0
"""Intervals: after a report of 95%, one of 0% still leaves 78%."""

COOL: Final = 5 / 6
"""Of a limit: with 90%, hot ends at 75%, which is below what one good report in between leaves."""

STEP: Final = 0.05
"""Part of the share in force, or of what the agent says, by which the two must differ. Each change makes
tables anew, and by maglev and source_hash moves clients."""

RISE: Final = 5
"""Answers in a row that say more before a share rises, to the least of what they say. It rises at one go:
every step on the way would move clients again."""

LOST: Final = 3
"""Questions in a row without an answer after which an agent is gone: two lost packets are bad luck."""

OLDEST: Final = 180.0
"""Seconds, or ``LOST`` intervals if that is longer: what is older by more than a timeout is stale, asked or
not."""


class AgentState(str, Enum):
    """What is known of a backend by its agent, as shown to people."""

    UNASKED = "unasked"  # the first answer is still to come
    OK = "ok"
    HOT = "hot"  # a figure is over its limit
    DRAIN = "drain"
    MAINT = "maint"
    DOWN = "down"  # or failed, or stopped
    STALE = "stale"  # it has said something, but too long ago
    SILENT = "silent"  # it has never answered


@dataclass(frozen=True, slots=True)
class Wish:
    """What an agent wants for the new connections of its backend.

    Attributes:
        share: part of its weight; 0 drains it, also if it is the last one: that is somebody's wish.
        down: the service is not up there. It gets none while others do; if none would, it goes on, as its
            checks pass: one fault that all agents tell of, of a database for example, stops nothing.
    """

    share: float = 1.0
    down: bool = False

    @property
    def none(self) -> bool:
        """Whether it wants no new connections."""
        return self.down or self.share == 0


@dataclass(frozen=True, slots=True)
class Sight:
    """A backend as its agent shows it. ``report`` is None if there is none that counts."""

    state: AgentState
    reason: str = ""  # empty where the state says it all
    report: Report | None = None
    age: float | None = None  # seconds since the agent has spoken
    rtt: float | None = None  # seconds from the last question to its answer
    share: float = 1.0  # part of its weight that it has by that

    @property
    def part(self) -> str:
        """The share in words; empty where it is all of it, or nothing."""
        return "" if self.share in (0, 1) else f"{self.share:.0%} of its weight"

    @property
    def said(self) -> str:
        """The state and its reason, in one line."""
        return f"{self.state.value}: {self.reason}" if self.reason else self.state.value

    @property
    def wish(self) -> Wish:
        """What is wanted by that."""
        return Wish(self.share, self.state is AgentState.DOWN)


@dataclass(slots=True)
class _Entry:
    """What is known of one target."""

    agent: AgentCheck
    said: Report | None = None  # the last words
    shown: Report = field(default_factory=Report)  # what is believed of them
    when: float = 0.0
    rtt: float = 0.0
    milder: int = 0  # reports in a row whose wish is better than what is believed
    healed: int = 0  # and whose service is
    share: float = 1.0  # part of its weight that it has
    higher: list[float] = field(default_factory=list)  # shares above that, said in a row
    missing: Counter[str] = field(default_factory=Counter)  # figures, by reports in a row without them
    hot: str = ""  # why
    failure: str = ""  # why the last question has no answer; empty if it has
    unanswered: int = 0  # questions since the last answer


class Reports:
    """Keeps the reports of the targets it was told of."""

    def __init__(self) -> None:
        """Begin with no targets."""
        self._entries: dict[BackendKey, _Entry] = {}

    def update(self, agents: Mapping[BackendKey, AgentCheck]) -> None:
        """These have agents, and no others. What is known of one stays unless another agent is asked."""
        self._entries = {target: self._entry(target, agent) for target, agent in agents.items()}

    def is_unasked(self, target: BackendKey) -> bool:
        """Whether an agent is to be asked of it and nothing has come of that yet, also no failure."""
        entry = self._entries.get(target)
        return entry is not None and entry.said is None and not entry.failure

    def _entry(self, target: BackendKey, agent: AgentCheck) -> _Entry:
        old = self._entries.get(target)
        if old is None or (old.agent.port, old.agent.protocol) != (agent.port, agent.protocol):
            return _Entry(agent)
        old.agent = agent
        return old

    def heard(self, target: BackendKey, report: Report, now: float, rtt: float) -> None:
        """An agent has said all it has to say. Of a target that is gone nothing is kept."""
        entry = self._entries.get(target)
        if entry is None:
            return
        first = entry.said is None or _is_stale(entry, now)
        was_hot = bool(entry.hot) and not first
        if first:
            self._entries[target] = entry = _Entry(entry.agent, report, shown=report, share=_part(report))
        else:
            sample = _complete(entry, report.figures)
            entry.shown = replace(
                _states(entry, report),
                figures=_damped(entry.shown.figures, sample, now - entry.when, entry.agent.interval),
            )
            _follow(entry, _part(entry.shown))
        entry.when, entry.rtt, entry.failure, entry.unanswered = now, rtt, "", 0
        entry.said = report
        entry.hot = _heat(entry.shown.figures, entry.agent, was_hot=was_hot)

    def heard_line(self, target: BackendKey, line: Line, now: float, rtt: float) -> None:
        """An agent has said something: what its line leaves out is as it was."""
        entry = self._entries.get(target)
        if entry is not None:
            self.heard(target, line.applied_to(entry.said or Report()), now, rtt)

    def failed(self, target: BackendKey, reason: str) -> None:
        """An agent was asked and has not answered; ``reason`` is one line."""
        if (entry := self._entries.get(target)) is not None:
            entry.failure = reason
            entry.unanswered += 1

    def look(self, service: str, backend: Endpoint, now: float) -> Sight | None:
        """What is believed of a backend now, and why; None if no agent of it is asked."""
        entry = self._entries.get((service, backend))
        if entry is None:
            return None
        if entry.said is None:
            if entry.failure:
                return Sight(AgentState.SILENT, f"ignored: {entry.failure}")
            return Sight(AgentState.UNASKED)
        age = _age(entry, now)
        if _is_stale(entry, now):
            why = f": {entry.failure}" if entry.failure else ""
            return Sight(AgentState.STALE, f"ignored, {age:.0f} s old{why}", age=age, rtt=entry.rtt)
        state, reason = _judged(entry)
        return Sight(state, reason, entry.shown, age, entry.rtt, _share(entry))

    def is_hot(self, service: str, backend: Endpoint, now: float) -> bool:
        """Whether a backend's agent says that a figure is over its limit. What ``look`` shows first takes
        nothing back: one that is down or drains may be hot beside it."""
        entry, sight = self._entries.get((service, backend)), self.look(service, backend, now)
        return entry is not None and sight is not None and sight.report is not None and bool(entry.hot)


def _age(entry: _Entry, now: float) -> float:
    return max(0.0, now - entry.when)


def _is_stale(entry: _Entry, now: float) -> bool:
    oldest = max(OLDEST, LOST * entry.agent.interval) + entry.agent.timeout
    return entry.unanswered >= LOST or _age(entry, now) > oldest


def _judged(entry: _Entry) -> tuple[AgentState, str]:
    shown = entry.shown
    if shown.operating is not Operating.UP:
        word = "" if shown.operating is Operating.DOWN else shown.operating.label
        return AgentState.DOWN, ": ".join(filter(None, (word, shown.note)))
    if shown.administrative is Administrative.MAINT:
        return AgentState.MAINT, ""
    if shown.administrative is Administrative.DRAIN or shown.weight == 0:
        return AgentState.DRAIN, ""
    if entry.hot:
        return AgentState.HOT, entry.hot
    return AgentState.OK, ""


def _share(entry: _Entry) -> float:
    if _wish(entry.shown) > Administrative.READY:
        return 0.0
    # The weight that an agent of ours says is for HAProxy, which does not know its figures.
    return entry.share if entry.agent.protocol == "tcp" else 1.0


def _part(report: Report) -> float:
    """Of its weight, that a backend is to have; at most all."""
    return 1.0 if report.weight is None else min(1.0, report.weight)


def _follow(entry: _Entry, share: float) -> None:
    """Bring the share that is in force to what is said now: down at once, up after a while, in steps. One
    of 0 has been taken back twice when it comes here."""
    step = STEP * max(share, entry.share)
    if share not in (0, 1) and round(abs(share - entry.share) - step, 6) < 0:
        entry.higher.clear()
    elif share <= entry.share or not entry.share:
        entry.share = share
        entry.higher.clear()
    else:
        entry.higher.append(share)
        if len(entry.higher) == RISE:
            entry.share = min(entry.higher)
            entry.higher.clear()


def _states(entry: _Entry, report: Report) -> Report:
    """The report with the states that are believed: worse ones at once, better ones said twice."""
    shown = entry.shown
    entry.milder = entry.milder + 1 if _wish(report) < _wish(shown) else 0
    entry.healed = entry.healed + 1 if _broken(report) < _broken(shown) else 0
    if entry.milder == 1:
        report = replace(report, administrative=shown.administrative, weight=shown.weight)
    if entry.healed == 1:
        report = replace(report, operating=shown.operating, note=shown.note)
    return report


def _wish(report: Report) -> Administrative:
    return max(report.administrative, Administrative.DRAIN if report.weight == 0 else Administrative.READY)


def _broken(report: Report) -> bool:
    return report.operating is not Operating.UP


def _complete(entry: _Entry, sample: Figures) -> Figures:
    """The figures of a report, and as they were those that it lacks and that were not missing for long."""
    kept: dict[str, float] = {}
    for name in LARGEST:
        if getattr(sample, name) is not None:
            entry.missing[name] = 0
            continue
        entry.missing[name] += 1
        if entry.missing[name] < LOST:
            kept[name] = getattr(entry.shown.figures, name)
    return replace(sample, **kept)


def _damped(before: Figures, sample: Figures, elapsed: float, interval: float) -> Figures:
    """A figure that rises is taken as it is; one that falls decays."""
    kept = math.exp(-max(0.0, elapsed) / (DAMPING * interval))
    damped: dict[str, float | None] = {}
    for name in LARGEST:
        old, new = getattr(before, name), getattr(sample, name)
        falls = old is not None and new is not None and new < old
        damped[name] = kept * old + (1 - kept) * new if falls else new
    return Figures(**damped)


def _heat(figures: Figures, agent: AgentCheck, *, was_hot: bool) -> str:
    """Which figures are over their limits; empty if none is."""
    over = []
    for name, value, limit in (
        ("CPU", figures.cpu, agent.cpu_limit),
        ("memory", figures.memory, agent.memory_limit),
    ):
        if value is not None and value > (COOL * limit if was_hot else limit):
            over.append(f"{name} {value:.0%}, limit {limit:.0%}")
    return "; ".join(over)
