"""The programs as other compilers make them: each clang branches, or computes both sides and chooses, as it
likes, and the verifier does not take all of that."""

import pytest

import build_bpf
from l4lb.datapath.libbpf import Object
from tests.unit.datapath.ebpf.kernel import CLANGS, SIZES


@pytest.mark.parametrize("name", ["tc", "xdp", "sweep", "query"])
@pytest.mark.parametrize(
    "clang", CLANGS or [pytest.param("", marks=pytest.mark.skip("no clang-N is here"))]
)
def test_the_verifier_takes_them_from_every_clang_that_is_here(bpf_possible, tmp_path, clang, name):
    target = tmp_path / f"{name}.bpf.o"
    build_bpf.compile_object(build_bpf.FOLDER / f"{name}.c", target, clang=clang)
    compiled = Object.open(target, max_entries=SIZES)
    try:
        compiled.load()
    finally:
        compiled.close()
