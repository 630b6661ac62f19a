from l4lb.model import MAX_COST, WHOLE
from l4lb.schedulers.least_connection import connection_costs
from tests.unit.schedulers.candidates import with_weights


def test_costs_are_inverse_to_weights_and_all_candidates_are_compared() -> None:
    selection = connection_costs(with_weights(4, 1, 2))

    assert selection.idle == WHOLE
    assert selection.candidates == 0
    assert selection.costs == ((0, 32_768), (1, 4 * 32_768), (2, 2 * 32_768))


def test_equal_weights_cost_one_whatever_the_weight() -> None:
    assert connection_costs(with_weights(7, 7)).costs == ((0, 32_768), (1, 32_768))


def test_the_lightest_against_the_heaviest_is_not_too_dear() -> None:
    costs = dict(connection_costs(with_weights(65_535, 1)).costs)

    assert costs[1] == 65_535 * costs[0] <= MAX_COST
