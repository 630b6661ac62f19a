"""Properties of rise/fall, of the schedule and of the HTTP check's limits."""

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from l4lb.health.http_get import HEAD_LIMIT, HttpGet
from l4lb.health.rise_fall import Health, HealthState, Outcome, Result, advance, initial
from l4lb.health.schedule import JITTER, Schedule
from l4lb.health.talk import BadAnswer
from l4lb.model import Endpoint, HealthCheck

COUNTS = st.integers(min_value=1, max_value=5)
OUTCOMES = st.lists(st.sampled_from(Outcome), max_size=60)
SHOWS = {Outcome.PASSED: HealthState.UP, Outcome.FAILED: HealthState.DOWN}


def follow(outcomes: list[Outcome], rise: int, fall: int) -> list[Health]:
    history = [initial(0.0)]
    for second, outcome in enumerate(outcomes, 1):
        result = Result(outcome, "" if outcome is Outcome.PASSED else f"check {second}")
        history.append(advance(history[-1], result, rise=rise, fall=fall, now=float(second)))
    return history


def last_run(outcomes: list[Outcome]) -> int:
    """How many of the last outcomes are alike."""
    return next(
        (n for n, outcome in enumerate(reversed(outcomes)) if outcome is not outcomes[-1]), len(outcomes)
    )


@given(OUTCOMES, COUNTS, COUNTS)
def test_state_turns_exactly_when_the_run_against_it_is_long_enough(outcomes, rise, fall):
    history = follow(outcomes, rise, fall)
    for n, (before, after) in enumerate(pairwise(history), 1):
        decided = [outcome for outcome in outcomes[:n] if outcome is not Outcome.UNDECIDED]
        failed = outcomes[n - 1] is Outcome.FAILED
        from_unknown = fall if failed else 1
        needed = {HealthState.UNKNOWN: from_unknown, HealthState.UP: fall, HealthState.DOWN: rise}[
            before.state
        ]
        against = outcomes[n - 1] in SHOWS and SHOWS[outcomes[n - 1]] is not before.state
        assert (after.state is not before.state) == (against and last_run(decided) >= needed)
        if after.state is not before.state:
            assert after.state is SHOWS[outcomes[n - 1]]


@given(OUTCOMES, COUNTS, COUNTS)
def test_since_is_the_time_of_the_last_transition(outcomes, rise, fall):
    history = follow(outcomes, rise, fall)
    turned = [n for n in range(1, len(history)) if history[n].state is not history[n - 1].state]
    assert history[-1].since == (turned[-1] if turned else 0.0)


@given(OUTCOMES, COUNTS, COUNTS)
def test_undecided_checks_change_nothing_but_what_is_shown(outcomes, rise, fall):
    with_them = follow(outcomes, rise, fall)[-1]
    without = follow([outcome for outcome in outcomes if outcome is not Outcome.UNDECIDED], rise, fall)[-1]
    assert (with_them.state, with_them.streak) == (without.state, without.streak)


@given(OUTCOMES, COUNTS, COUNTS)
def test_unfit_backend_always_says_why(outcomes, rise, fall):
    for health in follow(outcomes, rise, fall):
        if health.state is HealthState.DOWN or health.streak:
            assert health.reason
        assert health.usable == (not health.against)


@given(OUTCOMES, COUNTS, COUNTS)
def test_no_backend_is_down_before_so_many_checks_have_failed(outcomes, rise, fall):
    for n, health in enumerate(follow(outcomes, rise, fall)):
        if health.state is HealthState.DOWN:
            assert outcomes[:n].count(Outcome.FAILED) >= fall


class Simulation:
    """A schedule driven as the runner drives it, with what must hold asserted on the way."""

    def __init__(self, seed: int, max_at_once: int) -> None:
        self.schedule: Schedule[int] = Schedule(Random(seed), max_at_once)
        self.max_at_once = max_at_once
        self.intervals: dict[int, float] = {}
        self.added: dict[int, float] = {}
        self.starts: dict[int, list[float]] = {}
        self.ends: list[tuple[float, int]] = []  # of those under way

    def start(self, now: float, takes: float) -> None:
        before = self.schedule.next_start()
        started = self.schedule.start_due(now)
        assert bool(started) == (before is not None and before <= now)
        for key in started:
            assert key in self.intervals, "removed"
            assert key not in [other for _, other in self.ends], "twice at once"
            self.starts[key].append(now)
            self.ends.append((now + takes, key))
        assert len(self.ends) <= self.max_at_once

    def finish(self, now: float) -> None:
        for end, key in sorted(self.ends):
            if end <= now:
                self.schedule.finish(key, end)
                self.ends.remove((end, key))


@given(
    seed=st.integers(),
    max_at_once=st.integers(1, 4),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "run", "run"]),
            st.floats(0.1, 10),  # the interval of what is added
            st.floats(0, 5),  # seconds that pass
            st.floats(0.001, 15),  # seconds that a check takes
        ),
        max_size=40,
    ),
)
def test_schedule_keeps_its_bounds(seed, max_at_once, steps):
    simulation = Simulation(seed, max_at_once)
    now = 100.0
    for key, (what, interval, passes, takes) in enumerate(steps):
        if what == "add":
            simulation.schedule.add(key, interval, now)
            simulation.intervals[key], simulation.added[key], simulation.starts[key] = interval, now, []
        elif what == "remove" and simulation.intervals:
            gone = min(simulation.intervals)
            simulation.schedule.remove(gone)
            del simulation.intervals[gone]
        now += passes
        simulation.finish(now)
        simulation.start(now, takes)
    for key, interval in simulation.intervals.items():
        starts = simulation.starts[key]
        assert all(b - a >= interval * (1 - JITTER) - 1e-9 for a, b in pairwise(starts))
        late = now >= simulation.added[key] + interval and len(simulation.ends) < max_at_once
        assert starts or not late, "never checked though an interval has passed and a place is free"


@given(seed=st.integers(), intervals=st.lists(st.floats(0.5, 5), min_size=1, max_size=12))
def test_nobody_starves_when_there_are_too_few_places(seed, intervals):
    schedule: Schedule[int] = Schedule(Random(seed), 1)
    for key, interval in enumerate(intervals):
        schedule.add(key, interval, 0.0)
    now, order = 0.0, []
    while now < 200:
        start = schedule.next_start()
        assert start is not None
        now = max(now, start)
        (key,) = schedule.start_due(now)
        order.append(key)
        now += 1.0
        schedule.finish(key, now)
    # Due at most 5.5 s after its last start, and whoever is due before it goes first, once.
    longest = 5 * (1 + JITTER) + 2 * len(intervals)
    for key in range(len(intervals)):
        turns = [turn for turn, which in enumerate(order) if which == key]
        assert turns
        assert all(b - a <= longest for a, b in pairwise(turns))


def why_bad(parts: list[bytes]) -> str | None:
    """What the check says of an answer that comes in these parts; None if it finds no fault."""
    get = HttpGet(Endpoint.parse("10.2.0.11:80"), HealthCheck("http"))
    try:
        any(get.receive(part) for part in parts)  # stops at the first that makes it good
    except BadAnswer as bad:
        return str(bad)
    return None


PIECES = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.sampled_from([b"HTTP/1.1 ", b"200 OK\r\n", b"100 Continue\r\n", b"\r\n", b"A: b\r\n", b"\r\n\r\n"]),
)


@given(st.lists(PIECES, max_size=30))
def test_any_answer_is_judged_in_one_short_line(parts):
    reason = why_bad([b"HTTP/1.1 ", *parts])
    assert reason is None or (reason.isprintable() and 0 < len(reason) < 140)


@given(st.lists(PIECES, min_size=1, max_size=10))
def test_how_an_answer_is_cut_does_not_change_whether_it_is_good(parts):
    whole = b"HTTP/1.1 200 OK\r\n" + b"".join(parts)
    assert (why_bad([whole]) is None) == (why_bad([bytes([byte]) for byte in whole]) is None)


@given(st.integers(100, HEAD_LIMIT))
def test_endless_headers_end_at_the_limit(size):
    flood = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * HEAD_LIMIT
    parts = [flood[at : min(at + size, HEAD_LIMIT)] for at in range(0, HEAD_LIMIT, size)]
    assert why_bad(parts[:-1]) is None
    assert why_bad(parts) == f"no end of the headers within {HEAD_LIMIT} bytes"
