"""The packet-case table on the eBPF datapaths: the programs, one packet at a time by BPF_PROG_TEST_RUN, and
on real links, where the kernel sends."""

import subprocess

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.datapath.libbpf import LibbpfError
from tests.conformance.case import all_cases
from tests.conformance.engines.live import EBPF_OFFERS, LiveEngine, ebpf
from tests.conformance.engines.program import OFFERS, ProgramEngine
from tests.conformance.run import run

pytestmark = pytest.mark.lab

KINDS = ("tc", "xdp")


@pytest.fixture(scope="module", params=KINDS)
def program(request, lab_possible):
    try:
        engine = ProgramEngine(request.param)
    except (LibbpfError, OSError) as problem:
        pytest.skip(f"no eBPF: {problem}")
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=KINDS)
def live(request, lab_possible, tmp_path_factory):
    file_system = tmp_path_factory.mktemp("bpf")
    subprocess.run(["mount", "-t", "bpf", "bpf", file_system], check=True)
    try:
        engine = LiveEngine(request.param, ebpf(request.param, file_system), EBPF_OFFERS)
        yield engine
        engine.close()
    except DatapathError as problem:
        pytest.skip(f"no eBPF: {problem}")
    finally:
        subprocess.run(["umount", file_system], check=True)


def skip_without(missing):
    if missing:
        pytest.skip("no " + ", no ".join(need.value for need in missing))


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_case(case, program):
    skip_without(case.missing(OFFERS))
    with program.inside():
        run(case, program)


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_case_live(case, live):
    skip_without(case.missing(live.offers))
    run(case, live)
