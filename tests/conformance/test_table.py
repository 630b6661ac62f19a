"""The packet-case table on the pure core, and the table itself."""

from __future__ import annotations

import pytest

from tests.conformance.case import all_cases
from tests.conformance.engines.fast import FastEngine
from tests.conformance.engines.pure import PureEngine
from tests.conformance.run import run

CASES = all_cases()


@pytest.mark.parametrize("engine", [PureEngine, FastEngine], ids=lambda engine: engine.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case, engine):
    run(case, engine())
