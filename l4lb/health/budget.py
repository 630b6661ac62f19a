"""One token bucket for all probes of a gateway, and for the questions to agents. Pure: times and counts
in, yes or no out.

A token is a packet, in either direction. The bucket fills at a share of the packets forwarded, but not
slower than the floor and not faster than the ceiling, and holds at most a burst. What was forwarded
between two looks is spent in as long a time after them, so probes are spread and not sent in heaps, and a
window of time never sees more than

    burst + the share of what was forwarded in the window and one look before it + floor x its length
    burst + ceiling x its length

It starts empty: from the start on, under traffic that is worth more than the floor, the part of the probes
never exceeds the share. (Tested over all windows in ``tests/property/test_probe_budget.py``.)

What a probe causes beyond its price is paid by those after it, so over time the above holds for it too.
Only debt that a minute of the floor does not pay, nor a burst, is let off: nobody may stop all probes for
longer by odd answers. What was really sent is in the counters all the same.

Agents have an interval, and who sets it says what he will spend on them: the floor is raised by it, the
ceiling is not. They come first, but where they want more than the ceiling the floor that the config has is
kept from them, at most half of the ceiling: else no probe would ever be sent. Health checks are not
limited: they have intervals of their own and decide over up and down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf
from typing import Final

from l4lb.health.probes.result import ProbeKind
from l4lb.model import Probes, Service

_MARGIN: Final = 1e-9
"""Packets, for sums of floats: a wait for exactly one more must end."""

_LONGEST_DEBT: Final = 60.0  # seconds in which the floor pays what is owed


def for_agents(services: Iterable[Service]) -> float:
    """Packets a second that it takes to ask all agents at their intervals. Services whose backends and
    settings are alike share the questions."""
    agents = {
        (backend.address.ip, service.agent)
        for service in services
        if service.agent is not None
        for backend in service.backends
    }
    return sum(ProbeKind.of(agent).cost / agent.interval for _, agent in agents)


def with_agents(limits: Probes, services: Iterable[Service]) -> Probes:
    """The limits, with a floor that has room for the agents of these services."""
    return replace(limits, floor=min(limits.floor + for_agents(services), limits.ceiling))


def for_probes(limits: Probes) -> float:
    """Packets a second that agents leave to the probes; ``limits`` as the config has them."""
    return min(limits.floor, limits.ceiling / 2)


class Budget:
    """The bucket. Times are seconds on one clock that does not go back."""

    def __init__(self, limits: Probes, now: float, kept: float = 0.0) -> None:
        """Begin with nothing to spend; ``kept`` as for ``change``."""
        self._limits = limits
        self._kept = kept
        self._first = 0.0  # a level too: what those who come first may have of the other one
        self._level = 0.0
        self._filled = now  # when the level was true
        self._rate = limits.floor  # packets a second, until ``_until``; the floor from then on
        self._until = now
        self._looked = now
        self._forwarded: int | None = None  # at the last look
        self._reserved = 0  # packets, for who comes first

    @property
    def limits(self) -> Probes:
        """Those in force."""
        return self._limits

    def change(self, limits: Probes, now: float, kept: float = 0.0) -> None:
        """Other limits from now on; ``kept`` from those who come first are so many packets a second of the
        ceiling."""
        self._fill(now)
        self._limits = limits
        self._kept = kept
        self._first = min(self._first, 2 * limits.burst)
        self._rate = self._bounded(self._rate)
        self._level = max(min(self._level, limits.burst), self._deepest(limits.floor))

    def look(self, forwarded: int, now: float) -> None:
        """So many packets were forwarded in all. A count that went down has begun anew."""
        seconds = now - self._looked
        if self._forwarded is None:
            self._forwarded, self._looked = forwarded, now
        elif seconds > 0:
            self._fill(now)
            packets = forwarded - self._forwarded if forwarded >= self._forwarded else forwarded
            self._rate = self._bounded(self._limits.share * packets / seconds)
            self._until = now + seconds
            self._forwarded, self._looked = forwarded, now

    def take(self, packets: int, now: float) -> bool:
        """Spend that many, all or none; whether there were as many that nobody waits for."""
        self._fill(now)
        return self._spend(packets, self._reserved)

    def take_first(self, packets: int, now: float) -> bool:
        """The same, before all others: if there are not as many yet, they are kept until there are, or
        until ``release``. Else who needs many at once would never have them beside those who need few.
        Nothing is kept for who has had all that is not kept for the others."""
        self._fill(now)
        may = packets <= self._first + _MARGIN
        taken = may and self._spend(packets, 0)
        self._first -= packets if taken else 0
        self._reserved = packets if may and not taken else 0
        return taken

    def release(self) -> None:
        """Nobody waits with ``take_first`` any more."""
        self._reserved = 0

    def _spend(self, packets: int, reserved: int) -> bool:
        if packets + reserved > self._level + _MARGIN:
            return False
        self._level -= packets
        return True

    def owe(self, packets: int) -> None:
        """A probe has caused more packets than it was expected to: the next ones wait for them."""
        self._level = max(self._level - packets, self._deepest(self._limits.floor))

    def owe_first(self, packets: int) -> None:
        """The same of one who came first, and who goes on to leave to the others what is kept for them."""
        self.owe(packets)
        self._first = max(self._first - packets, self._deepest(self._first_rate))

    @property
    def _first_rate(self) -> float:
        """Packets a second that those who come first may have."""
        return self._limits.ceiling - self._kept

    def _deepest(self, rate: float) -> float:
        """The level of the largest debt that is paid at a rate."""
        return -max(self._limits.burst, _LONGEST_DEBT * rate)

    def wait(self, packets: int, now: float) -> float:
        """Seconds until that many can be spent; infinite if never, with what is known now."""
        self._fill(now)
        missing = packets + self._reserved - self._level
        if missing <= 0:
            return 0.0
        if packets > self._limits.burst:
            return inf
        sooner = self._rate * max(0.0, self._until - now)
        if missing <= sooner:
            return missing / self._rate
        if not self._limits.floor:
            return inf
        return max(0.0, self._until - now) + (missing - sooner) / self._limits.floor

    def _bounded(self, rate: float) -> float:
        return min(max(rate, self._limits.floor), self._limits.ceiling)

    def _fill(self, now: float) -> None:
        if now <= self._filled:
            return
        at_rate = max(0.0, min(now, self._until) - self._filled)
        at_floor = now - self._filled - at_rate
        earned = at_rate * self._rate + at_floor * self._limits.floor
        self._level = min(self._limits.burst, self._level + earned)
        first = self._first_rate * (now - self._filled)
        # Twice a burst: nothing is lost of it while the level rises to what a question costs.
        self._first = min(2 * self._limits.burst, self._first + first)
        self._filled = now
