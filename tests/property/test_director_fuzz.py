"""Whatever comes from the network: no exception, nothing unbounded, nothing uncounted, nothing left."""

from hypothesis import given
from hypothesis import strategies as st

from tests.property.effort import examples
from tests.property.moves import runs
from tests.property.traffic import Run, check_bounds, check_empty


@examples(120)
@given(runs, st.booleans())
def test_no_traffic_breaks_the_director(moves, fast):
    run = Run(fast=fast)
    for move in moves:
        run.out.clear()
        move(run)
        check_bounds(run)
    check_empty(run)
