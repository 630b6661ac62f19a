import pytest

from l4lb.model import Key
from l4lb.schedulers.round_robin import smooth_order, turn_table
from tests.unit.schedulers.candidates import with_weights


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ([5, 1, 1], "aabacaa"),  # from nginx's commit "Upstream: smooth weighted round-robin balancing"
        ([1, 1, 1], "abc"),
        ([2, 1], "aba"),
        ([1, 2], "bab"),
        ([4, 2, 1], "abacaba"),
        ([3, 2, 2], "abcabca"),
        ([1], "a"),
    ],
)
def test_the_order_is_that_of_nginx(weights: list[int], order: str) -> None:
    assert "".join("abc"[position] for position in smooth_order(weights)) == order


def test_the_table_is_as_short_as_the_weights_allow() -> None:
    table = turn_table(with_weights(50, 10, 10))

    assert table.key is Key.TURN
    assert table.slots == (0, 0, 1, 0, 2, 0, 0)


def test_slots_hold_the_index_in_the_service_not_the_place_among_candidates() -> None:
    first, _, third = with_weights(1, 1, 1)

    assert turn_table([first, third]).slots == (0, 2)
