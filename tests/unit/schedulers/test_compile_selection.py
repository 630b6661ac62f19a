import pytest

from l4lb.model import Costs, Key, Selection, Table
from l4lb.schedulers import SCHEDULERS, compile_selection
from tests.unit.schedulers.candidates import with_weights


def chosen(selection: Selection) -> set[int]:
    """Indices that can come out."""
    if isinstance(selection, Costs):
        return {index for index, _ in selection.costs}
    return set(selection.slots)


def test_the_schedulers_of_the_config() -> None:
    names = ["round_robin", "least_connection", "source_hash", "maglev", "random", "adaptive"]
    assert list(SCHEDULERS) == names
    assert all(scheduler.name == name for name, scheduler in SCHEDULERS.items())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_weight_zero_is_left_out_and_indices_stay(scheduler: str) -> None:
    assert chosen(compile_selection(scheduler, with_weights(0, 1, 0, 2))) == {1, 3}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("weights", [(), (0, 0)])
def test_nobody_left_is_an_empty_table(scheduler: str, weights: tuple[int, ...]) -> None:
    assert compile_selection(scheduler, with_weights(*weights)) == Table(Key.TURN, ())


@pytest.mark.parametrize(
    ("scheduler", "consistent"),
    [
        ("round_robin", False),
        ("least_connection", False),
        ("source_hash", True),
        ("maglev", True),
        ("random", False),
    ],
)
def test_hashes_can_pick_up_connections_mid_stream(scheduler: str, consistent: bool) -> None:
    assert compile_selection(scheduler, with_weights(1, 2)).consistent is consistent


def test_an_unknown_scheduler_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'lc' is not a scheduler: use one of round_robin, .*random"):
        compile_selection("lc", with_weights(1))
