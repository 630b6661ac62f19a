"""The packet-case table on the raw datapath: real sockets, the real shield, a real kernel."""

import pytest

from tests.conformance.case import all_cases
from tests.conformance.engines.live import RAW_OFFERS, LiveEngine, raw
from tests.conformance.run import run

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def engine(lab_possible, tmp_path_factory):
    engine = LiveEngine("raw", raw(tmp_path_factory.mktemp("conformance")), RAW_OFFERS)
    yield engine
    engine.close()


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_case(case, engine):
    if missing := case.missing(engine.offers):
        pytest.skip("no " + ", no ".join(need.value for need in missing))
    run(case, engine)
