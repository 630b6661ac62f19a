import pytest

from soaking.watch import Counts, Watch, left

NOTHING = Counts(0, 0, 0)
BELOW = (1 << 32) - 1  # -1 in the 32 bits of the programs


@pytest.mark.parametrize(
    "counts", [NOTHING, Counts(0, 3, 3), Counts(2, 0, 2), Counts(1, 1, 2), Counts(5, 7, 0)]
)
def test_what_can_be_is_no_fault(counts):
    watch = Watch()
    watch.look({"web": counts})
    watch.look({"web": counts})
    assert not watch.faults
    assert watch.most == counts


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        (Counts(-1, 0, 0), "half_open is below 0"),
        (Counts(0, BELOW, 0), "established is below 0"),
        (Counts(0, 0, BELOW), "outstanding is below 0"),
        (Counts(1, 2, 4), "4 outstanding of 2 established and 1 half-open connections"),
    ],
)
def test_what_cannot_be_is_a_fault_if_it_lasts(counts, why):
    watch = Watch()
    watch.look({"web": counts})
    watch.look({"web": NOTHING})
    watch.look({"web": counts})
    assert not watch.faults
    watch.look({"web": counts, "dns": counts})
    watch.look({"web": NOTHING})
    assert watch.faults == {"web": why}
    assert watch.looks == 5


def test_the_most_that_was_seen_is_of_what_can_be():
    watch = Watch()
    watch.look({"web": Counts(1, 9, 3), "dns": Counts(4, 2, 5)})
    watch.look({"web": Counts(BELOW, 0, 0)})
    assert watch.most == Counts(4, 9, 5)


def test_what_is_left_is_what_has_not_come_back_to_0():
    assert left({"web": NOTHING, "dns": Counts(0, 0, 1)}) == {"dns": Counts(0, 0, 1)}
    assert left({"web": NOTHING}) == {}
