"""The programs as other compilers make them: each clang branches, or computes both sides and chooses, as it
likes, and the verifier does not take all of that."""

import pytest

from l4lb.datapath.libbpf import Object
from tests.unit.datapath.ebpf.kernel import CLANGS, SIZES


@pytest.mark.parametrize("name", ["tc", "xdp", "sweep", "query"])
@pytest.mark.parametrize(
    "clang", CLANGS or [pytest.param("", marks=pytest.mark.skip("no clang-N is here"))]
)
def test_the_verifier_takes_them_from_every_clang_that_is_here(bpf_possible, compiled, clang, name):
    opened = Object.open(compiled(clang, name), max_entries=SIZES)
    try:
        opened.load()
    finally:
        opened.close()
