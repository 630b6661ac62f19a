"""How hard the property tests of the packet core try: L4LB_FUZZ=long is for runs of many minutes."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = os.environ.get("L4LB_FUZZ") == "long"


def examples(count: int) -> settings:
    """``count`` examples in the daily run, a hundred times as many in a long one."""
    return settings(
        max_examples=count * 100 if LONG else count,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def weighted(weights: dict[st.SearchStrategy[Any], int]) -> st.SearchStrategy[Any]:
    """One of several strategies, each as often as its weight says: ``one_of`` drops repetitions."""
    drawn = [strategy for strategy, weight in weights.items() for _ in range(weight)]
    return st.sampled_from(drawn).flatmap(lambda strategy: strategy)
