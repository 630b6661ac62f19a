"""The packet-case table on the eBPF programs, one packet at a time by BPF_PROG_TEST_RUN."""

import pytest

from l4lb.datapath.libbpf import LibbpfError
from tests.conformance.case import all_cases
from tests.conformance.engines.program import OFFERS, ProgramEngine
from tests.conformance.run import run

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=["tc", "xdp"])
def engine(request, lab_possible):
    try:
        engine = ProgramEngine(request.param)
    except (LibbpfError, OSError) as problem:
        pytest.skip(f"no eBPF: {problem}")
    yield engine
    engine.close()


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_case(case, engine):
    if missing := case.missing(OFFERS):
        pytest.skip("no " + ", no ".join(need.value for need in missing))
    with engine.inside():
        run(case, engine)
