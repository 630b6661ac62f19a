"""How slow a backend is at present, as far as can be believed from what was seen of it. Pure.

The statistics of waiting. Say that at any moment a backend of the usual speed answers a request it
has with probability dt / usual, and one that is s times slower with dt / (s * usual). Of ``answers``
answers, while requests waited for ``waited`` seconds in all, answered or not, the likelihood is then
s ** -answers * exp(-waited / (s * usual)): that of the exponential distribution with censored data. A
request tells what it can while it waits, so a backend that answers no more is found out by the age of
its requests, in about twice the usual time. How many requests are served at a time does not matter.

What a request tells is bounded: one that has waited for as long as no backend of these would take is held
for a reason of its own, a long poll or a client's last word that asked for nothing, and counts no more
(``HELD``). Otherwise any client could keep others from a backend, by a request that is never answered.

A backend may change at any time, so with each look belief moves towards the prior a little (a hidden
Markov model whose only transition is a fresh start). It bounds what is held for and against a
backend: a change is believed after the same few requests, however long the past was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, isfinite
from typing import Final

from l4lb.schedulers.measured import Measured

SLOWNESS: Final = (1.0, 2.0, 4.0)
"""Times slower than usual that a backend may be. A finer or wider scale finds nothing sooner.

None is faster than usual: the fast one has fewer in flight anyway, and who answers at once because
it answers nonsense must not draw everybody."""

PRICES: Final = (1.0, 3.0, 7.0)
"""What a backend of that slowness costs: more than in proportion, as the price counts the requests
before the new one as if they were served one by one, and an idle slow backend would look cheap. The
last one bounds all: where the others have seven in flight even a very slow backend is used."""

PRIOR: Final = (0.6, 0.15, 0.25)
"""Belief in each of them about a backend of which nothing is known, or nothing any more. With more
for the slow ones the good are suspected, with less a burst is noticed later."""

MEMORY: Final = 2.0
"""Seconds in which what was believed fades by e. It sets how soon a slow backend is tried again, and
how much the first slow answers weigh: shorter and it gets more of what it cannot serve, longer and
it misses the end of a burst."""

RETRY: Final = 2.0
"""Seconds in which what speaks against a backend fades by e while it has no request. It bounds how
long one without traffic is shunned, however little traffic there is: 6 seconds until its price of 7 is
below 1.3, and with others busy as soon as it costs less than they. By RELENTING it is 10 where connections
are kept."""

LASTING: Final = 12.0
"""Seconds in which a connection that is kept comes to be charged what its backend costs. Shorter and those
that outlive a burst are placed by it: under bursts of two seconds the 99th percentile of a pool of them is
then up to 1.07 times that of least_connection instead of 1.02. Longer and one that is slow for good gets
more of them at first."""

RELENTING: Final = 4.0
"""Seconds in which it comes to be charged less again. Those that it has show soon that it is well."""

FAILURE: Final = 5.0
"""Times the usual wait that a connection that failed counts, and a SYN that was sent again, after a second
or so. That one fails no connection: two SYNs at once are easily forged."""

SEVERAL: Final = 3.0
"""Connections that must fail in a row before a backend is failing: one or two can be a client's doing, who
gives up in the middle of a request, or forges the end of a handshake so that the backend resets it."""

HELD: Final = 20.0
"""Usual waits after which a request says no more. By then a backend that has no other is
taken for as slow as can be, and from then on it is forgiven."""

SLOW_PROBE: Final = 2.0
"""Usual waits that the answer to a probe takes to count. A quicker one says nothing for a backend: what a
check asks for is often easier than what clients do, and is answered where they are not."""

EVIDENCE: Final = 10.0
"""Answers, or usual waits, that one look counts at most: what is seen in one moment has its causes
in common, and a thousand answers are not a thousand witnesses."""

ROUNDING: Final = 1e-6
"""Part of a sum of times that may be an error of the sum."""

AVERAGE: Final = 10.0
"""Seconds over which a backend's own response time, the scatter of its answers and its new connections are
averaged. They say what is usual, which is to change more slowly than what is compared with it."""

LARGEST: Final = 1e12
"""Beyond it a figure is nonsense, and squares would overflow."""


@dataclass(frozen=True, slots=True)
class Held:
    """Those of the outstanding requests that say no more, as far as sums of all can tell."""

    requests: int = 0
    waiting: float = 0.0  # seconds that they have waited, together

    def longer(self, seconds: float) -> Held:
        """They wait on."""
        return Held(self.requests, self.waiting + self.requests * seconds)

    def without(self, waited: float) -> Held:
        """One of them is over, after that time."""
        return Held(self.requests - 1, max(0.0, self.waiting - waited)) if self.requests > 1 else Held()

    def grown(self, outstanding: int, waiting: float, usual: float) -> Held:
        """With those that must be among them now, of all that are outstanding: while the others have waited
        for too long on average, there is one that has."""
        requests, theirs = min(self.requests, outstanding), min(self.waiting, waiting)
        while requests < outstanding and waiting - theirs > HELD * usual * (outstanding - requests):
            requests += 1
            theirs = max(theirs, waiting - usual * (outstanding - requests))
        return Held(requests, theirs) if requests else Held()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed of one backend."""

    since: float  # when it was first looked at
    looked: float  # when it was last
    asked: float  # when it was last seen to have, or to have had, a request
    belief: tuple[float, ...] = PRIOR  # in each SLOWNESS; adds up to 1
    lasting: float = 1.0  # the price that a connection which is kept is going to meet: an average
    failures: float = 0.0  # connections in a row that ended without an answer
    failed: float = 0.0  # when one last did
    counted: float = 0.0  # since when new connections are
    waiting: float = 0.0  # as it stood at the last look
    held: Held = Held()
    # Fading sums over the last AVERAGE seconds:
    opened: float = 0.0  # connections
    waited: float = 0.0  # seconds
    answers: float = 0.0
    expected: float = 0.0  # answers in the same time of a backend as fast as this one on average
    scatter: float = 0.0  # squares of how far the answers of a look were from that

    @property
    def failing(self) -> bool:
        """Whether its last connections failed."""
        return self.failures >= SEVERAL

    @property
    def response_time(self) -> float | None:
        """Seconds a request waits, on average; None if there were none of late."""
        return self.waited / self.answers if self.answers >= 1 else None

    @property
    def dispersion(self) -> float | None:
        """Variance of the answers of a look over their number: about 1 if their times are exponentially
        distributed, more the more they differ; None if there were too few."""
        return self.scatter / self.expected if self.expected >= 3 else None

    def price(self, now: float) -> float:
        """The price of its slowness, as expected: 1 to max(PRICES). Without news what speaks against it
        fades, and nothing comes up that is believed of anybody."""
        quiet = max(0.0, now - self.asked)
        expected = min(_expected(self.belief), _expected(_forget(self.belief, quiet)))
        return 1 + (expected - 1) * exp(-quiet / RETRY)


@dataclass(frozen=True, slots=True)
class Usual:
    """What the backends of a service have in common."""

    response_time: float  # seconds
    doubt: float = 1.0  # how many times less a look says than if times were exponential; at least 1


def observe(estimate: Estimate, measured: Measured, usual: Usual | None, now: float) -> Estimate:
    """Learn from one look; without anything usual to compare with only the averages."""
    passed = max(0.0, now - estimate.looked)
    answers, waiting = count(measured.answers), count(measured.waiting)
    waited = count(measured.answer_time) + waiting - estimate.waiting
    # Requests that were given up took their age along, which had been counted as it grew.
    given_up = waited < -ROUNDING * estimate.waiting
    outstanding = int(count(measured.outstanding))
    held, fresh = estimate.held.longer(passed), outstanding > 0
    if usual is not None:
        # What was waited for by those whose wait is over.
        over = -waited if given_up else count(measured.answer_time) - answers * usual.response_time
        if held.requests and over > HELD * usual.response_time:
            held, given_up = held.without(over), False
        # Who was not held before has its say now, also if it has waited for so long since the last look.
        fresh = outstanding > held.requests
        held = held.grown(outstanding, waiting, usual.response_time)
    waited = max(0.0, waited - estimate.held.requests * passed)
    # Some servers end well with a reset.
    failures = max(0.0, count(measured.failures) + given_up - answers)
    silences = count(measured.silences)
    slow_probe = 0.0 if usual is None else _slow(count(measured.probed) / usual.response_time)
    news = bool(answers or failures or silences or slow_probe or fresh)
    belief = estimate.belief
    if usual is not None and news:
        belief = _forget(belief, (now - estimate.asked) / usual.doubt)
        waits = waited / usual.response_time + FAILURE * (failures + silences) + slow_probe
        belief = _weigh(belief, waits, answers + bool(slow_probe), usual.doubt)
    fade = exp(-passed / AVERAGE)
    all_waited, all_answers = estimate.waited * fade + waited, estimate.answers * fade + answers
    # Against its own average, this look included: a service whose requests all become longer has not
    # become more scattered.
    expected = waited * all_answers / all_waited if all_waited and all_answers >= 1 else 0.0
    scatter = (answers - expected) ** 2 if expected else 0.0
    seen = Estimate(
        since=estimate.since,
        looked=estimate.looked + passed,
        asked=max(now, estimate.asked) if news else estimate.asked,
        belief=belief,
        failures=failures if answers else estimate.failures + failures,
        failed=now if failures > 0 else estimate.failed,
        waiting=waiting,
        held=held,
        counted=estimate.counted,
        opened=estimate.opened * fade + count(measured.opened),
        waited=all_waited,
        answers=all_answers,
        expected=estimate.expected * fade + expected,
        scatter=estimate.scatter * fade + scatter,
    )
    return replace(seen, lasting=_lasting(seen, estimate.lasting, passed))


def _slow(probe: float) -> float:
    """The usual waits that the answer to a probe has taken, if they count."""
    return probe if probe >= SLOW_PROBE else 0.0


def _lasting(seen: Estimate, before: float, passed: float) -> float:
    """Nobody keeps connections with one that lets them fail: there the price of now counts at once."""
    price = seen.price(seen.looked)
    if seen.failures:
        before = max(before, price)
    return price + (before - price) * exp(-passed / (LASTING if price > before else RELENTING))


def _expected(belief: tuple[float, ...]) -> float:
    return sum(share * price for share, price in zip(belief, PRICES, strict=True))


def _forget(belief: tuple[float, ...], passed: float) -> tuple[float, ...]:
    kept = exp(-max(0.0, passed) / MEMORY)
    return tuple(kept * share + (1 - kept) * prior for share, prior in zip(belief, PRIOR, strict=True))


def _weigh(belief: tuple[float, ...], waits: float, answers: float, doubt: float) -> tuple[float, ...]:
    """Bayes' rule. ``waits`` is in usual response times."""
    weight = min(1 / doubt, EVIDENCE / max(waits, answers, EVIDENCE))
    weighed = [
        share * exp(-weight * waits / times) * times ** (-weight * answers)
        for share, times in zip(belief, SLOWNESS, strict=True)
    ]
    total = sum(weighed)
    return tuple(share / total for share in weighed)


def count(value: float) -> float:
    """The figure, or 0 if it cannot be a number or a time of anything."""
    return float(value) if isfinite(value) and 0 < value < LARGEST else 0.0
