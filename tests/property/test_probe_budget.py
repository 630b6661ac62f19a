"""The budget of the probes over every window of time, and the order in which backends get their turns."""

from bisect import bisect_left
from itertools import accumulate, pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from l4lb.health.budget import Budget
from l4lb.health.need import Needs, Standing
from l4lb.model import Probes

LIMITS = st.builds(
    Probes,
    share=st.sampled_from([0.0, 0.001, 0.1]),
    floor=st.sampled_from([0.0, 0.5, 3.0]),
    ceiling=st.sampled_from([3.0, 50.0]),
    burst=st.sampled_from([12.0, 24.0]),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0]),  # seconds since the step before
        st.one_of(st.none(), st.sampled_from([0, 10, 1_000, 100_000])),  # a look: forwarded since the last
        st.sampled_from([0, 1, 3, 12, 60]),  # packets wanted, three at a time
    ),
    min_size=1,
    max_size=40,
)


@given(limits=LIMITS, steps=STEPS)
def test_no_window_of_time_sees_more_than_the_budget(limits, steps):
    now, forwarded = 0.0, 0
    budget = Budget(limits, now)
    budget.look(forwarded, now)
    looks, spent = [(now, 0)], []
    for pause, grown, wanted in steps:
        now += pause
        if grown is not None:
            forwarded += grown
            budget.look(forwarded, now)
            if now > looks[-1][0]:
                looks.append((now, forwarded))
        for _ in range(0, wanted, 3):
            if budget.take(3, now):
                spent.append((now, 3))

    times = [when for when, _ in looks]
    for first, (begin, _) in enumerate(spent):
        for last in range(first, len(spent)):
            end = spent[last][0]
            length, packets = end - begin, sum(count for _, count in spent[first : last + 1])
            assert packets <= limits.burst + limits.ceiling * length + 1e-6
            # What was forwarded from the look before the one in force at the begin, to the last one.
            earliest = max(0, bisect_left(times, begin) - 2)
            share = limits.share * (forwarded_at(looks, end) - looks[earliest][1])
            assert packets <= limits.burst + share + limits.floor * length + 1e-6


def forwarded_at(looks, now):
    return max(count for when, count in looks if when <= now)


@given(limits=LIMITS, steps=STEPS)
def test_from_the_start_on_only_what_was_earned_is_spent(limits, steps):
    now, forwarded, looked, earned, spent = 0.0, 0, 0.0, 0.0, 0
    budget = Budget(limits, now)
    budget.look(0, now)
    for pause, grown, wanted in steps:
        now += pause
        if grown is not None and now > looked:
            forwarded += grown
            budget.look(forwarded, now)
            earned += min(
                max(limits.share * grown, limits.floor * (now - looked)), limits.ceiling * (now - looked)
            )
            looked = now
        for _ in range(wanted):
            spent += budget.take(1, now)
        assert spent <= earned + limits.floor * now + 1e-6


KEYS = st.integers(0, 5)
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["place", "remove", "serve"]),
        KEYS,
        st.sampled_from(Standing),
        st.sampled_from([0.0, 0.1, 3.0, 20.0]),
    ),
    max_size=60,
)


@given(moves=MOVES, seed=st.integers(0, 3))
def test_the_first_is_always_who_waits_longest_in_units_of_patience(moves, seed):
    needs = Needs(Random(seed))
    standings = {}
    now = 0.0
    for move, key, standing, pause in moves:
        now += pause
        if move == "place":
            needs.place(key, standing, now)
            standings[key] = standing
        elif move == "remove":
            needs.remove(key, now)
            standings.pop(key, None)
        elif (first := needs.first(now)) is not None:
            needs.serve(first, now)
        assert set(needs) == set(standings)
        first = needs.first(now)
        late = {
            key: (now - turn.due) / standings[key].patience
            for key, turn in needs._turns.items()
            if standings[key] is not Standing.FRESH and turn.due <= now
        }
        assert (first is None) == (not late)
        assert first is None or late[first] == max(late.values())


def test_nobody_waits_for_ever_and_need_decides_how_often():
    """1,000 backends and a tenth of the probes they want: all are asked, at a rate by their standing."""
    needs = Needs(Random(1))
    kinds = (Standing.IDLE, Standing.STALE, Standing.SHUNNED)
    standing = {key: kinds[min(key // 400, 2)] for key in range(1_000)}
    for key, kind in standing.items():
        needs.place(key, kind, 0.0)
    wanted = sum(1 / kind.patience for kind in standing.values())  # a second
    asked = {key: [0.0] for key in standing}
    now = 0.0
    while now < 600.0:
        now += 10 / wanted
        if (key := needs.first(now)) is not None:
            needs.serve(key, now)
            asked[key].append(now)
    for key, kind in standing.items():
        times = [*asked[key], now]
        longest = max(later - sooner for sooner, later in pairwise(times))
        assert longest < 13 * kind.patience, (key, kind)


def test_a_turn_costs_a_few_comparisons_also_with_10_000_backends():
    def effort(backends):
        counted = [0]

        class Counted(float):
            """A time that counts how often it is compared."""

            def __lt__(self, other):
                counted[0] += 1
                return float(self) < float(other)

            def __radd__(self, other):
                return Counted(other + float(self))

            def __rmul__(self, other):
                return Counted(other * float(self))

        class CountedRandom(Random):
            def random(self):
                return Counted(super().random())

            def uniform(self, a, b):
                return Counted(a + (b - a) * float(super().random()))

        needs = Needs(CountedRandom(1))
        for key in range(backends):
            needs.place(key, Standing.IDLE, 0.0)
        counted[0] = 0
        for turn in range(1_000):
            needs.serve(needs.first(20.0 + turn), 20.0 + turn)
        return counted[0] / 1_000

    few, many = effort(100), effort(10_000)
    assert 1 < few < 20
    assert many < 3 * few


def test_what_is_placed_to_and_fro_does_not_pile_up():
    needs = Needs(Random(1))
    needs.place("waits", Standing.STALE, 0.0)
    for now in accumulate([1.0] * 1_000):
        needs.place("flaps", Standing.FRESH, now)
        needs.place("flaps", Standing.STALE, now)
    assert sum(map(len, needs._heaps.values())) < 10
