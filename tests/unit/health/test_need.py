"""Which backend wants a probe most."""

from math import inf
from random import Random

import pytest

from l4lb.health.need import FRESH_FOR, RECOVERY, STALE_FOR, Needs, Standing, standing


@pytest.fixture
def needs():
    return Needs(Random(1))


@pytest.mark.parametrize(
    ("age", "up_for", "shunned", "expected"),
    [
        (0.0, 1e6, False, Standing.FRESH),
        (FRESH_FOR - 0.1, 0.0, True, Standing.FRESH),
        (FRESH_FOR, 1e6, False, Standing.STALE),
        (STALE_FOR, 1e6, False, Standing.IDLE),
        (inf, 1e6, False, Standing.IDLE),
        (inf, RECOVERY - 0.1, False, Standing.RECOVERING),
        (inf, 0.0, True, Standing.SHUNNED),
        (FRESH_FOR, 1e6, True, Standing.SHUNNED),
    ],
)
def test_standing(age, up_for, shunned, expected):
    assert standing(age, up_for=up_for, shunned=shunned) is expected


def test_fresh_backends_want_nothing(needs):
    needs.place("a", Standing.FRESH, 0.0)
    assert needs.first(1e9) is None
    assert needs.next_due() is None
    assert needs.withheld(1e9) == 0


def test_a_new_backends_turn_comes_within_one_patience_at_a_random_moment(needs):
    dues = []
    for number in range(100):
        needs = Needs(Random(number))
        needs.place("a", Standing.IDLE, 50.0)
        dues.append(needs.next_due() - 50.0)
        assert needs.first(needs.next_due()) == "a"
    assert 0 <= min(dues) < 1
    assert 9 < max(dues) < 10


def test_turns_come_a_jittered_patience_apart(needs):
    needs.place("a", Standing.STALE, 0.0)
    gaps, now = set(), needs.next_due()
    for _ in range(50):
        needs.serve("a", now)
        gaps.add(needs.next_due() - now)
        assert needs.first(now) is None
        now = needs.next_due()
    assert len(gaps) > 40
    assert 4.5 <= min(gaps) < max(gaps) <= 5.5


def test_the_first_is_the_latest_in_units_of_its_own_patience(needs):
    needs.place("idle", Standing.IDLE, 0.0)
    needs.place("shunned", Standing.SHUNNED, 0.0)
    for key in ("idle", "shunned"):
        needs.serve(key, 0.0)
    assert needs.first(30.0) == "shunned"
    needs.serve("shunned", 30.0)
    assert needs.first(30.0) == "idle", "two patiences late; the other has just been asked"


def test_another_standing_brings_a_turn_forward_and_never_puts_it_off(needs):
    needs.place("a", Standing.IDLE, 0.0)
    needs.serve("a", 0.0)
    needs.place("a", Standing.SHUNNED, 1.0)
    assert needs.next_due() <= 2.0
    due = needs.next_due()
    for now in (1.1, 1.2, 1.3):
        needs.place("a", Standing.IDLE, now)
        needs.place("a", Standing.STALE, now)
        assert needs.next_due() <= due


def test_what_traffic_has_measured_begins_anew(needs):
    needs.place("a", Standing.STALE, 0.0)
    needs.place("a", Standing.FRESH, 20.0)
    assert needs.first(20.0) is None
    needs.place("a", Standing.STALE, 25.0)
    assert 25.0 <= needs.next_due() <= 30.0


def test_the_same_standing_again_changes_nothing(needs):
    needs.place("a", Standing.IDLE, 0.0)
    due = needs.next_due()
    for now in range(9):
        needs.place("a", Standing.IDLE, float(now))
    assert needs.next_due() == due


def test_who_is_removed_is_not_probed_and_may_come_back(needs):
    needs.place("a", Standing.IDLE, 0.0)
    needs.remove("a", 1.0)
    needs.remove("a", 1.0)
    assert needs.first(1e9) is None
    assert list(needs) == []
    needs.place("a", Standing.IDLE, 2.0)
    assert needs.first(12.0) == "a"


def test_withheld_are_the_turns_that_passed(needs):
    needs.place("a", Standing.STALE, 0.0)
    needs.place("b", Standing.STALE, 0.0)
    for key in ("a", "b"):
        needs.serve(key, 0.0)  # their turns come at about 5
    assert needs.withheld(9.0) == 0
    assert needs.withheld(21.0) == 6, "each could have been asked three times more, at 5, 10 and 15"
    needs.serve("a", 21.0)
    needs.place("b", Standing.FRESH, 21.0)
    assert needs.withheld(21.0) == 6, "also of those that wait no longer"
    assert needs.withheld(25.0) == 6


def test_another_standing_counts_nothing_that_was_withheld_before(needs):
    needs.place("a", Standing.IDLE, 0.0)
    needs.serve("a", 0.0)  # its turn comes at about 10
    assert needs.withheld(1000.0) == 98
    for now in (1000.0, 1000.1, 1000.2):
        needs.place("a", Standing.SHUNNED, now)
        assert needs.withheld(now) == 98
        needs.place("a", Standing.IDLE, now)
        assert needs.withheld(now) == 98
    needs.place("a", Standing.SHUNNED, 1001.0)
    assert needs.withheld(1005.5) == 98 + 4, "from now on one a second"
    assert needs.first(1001.0) == "a"


def test_but_who_waits_does_not_wait_anew_for_it(needs):
    needs.place("a", Standing.IDLE, 0.0)
    needs.place("b", Standing.IDLE, 0.0)
    needs.serve("a", 0.0)
    needs.serve("b", 30.0)
    needs.place("a", Standing.STALE, 60.0)
    needs.place("b", Standing.STALE, 60.0)
    assert needs.first(60.0) == "a"
