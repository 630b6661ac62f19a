"""How large maps are made."""

from contextlib import closing

import pytest

from l4lb.datapath.ebpf.layout import BLOCK_PAIRS
from l4lb.datapath.ebpf.programs import _sizes
from l4lb.datapath.libbpf import Map
from l4lb.model import Limits
from tests.unit.datapath.ebpf.kernel import file_system


@pytest.mark.parametrize(("established", "blocks"), [(1, 1), (64, 1), (65, 2), (1_000_000, 15_625)])
def test_the_walk_over_established_connections_comes_to_all_of_them(established, blocks, tmp_path):
    sizes = _sizes(Limits(established=established), tmp_path)
    assert sizes["connections4"] == sizes["connections6"] == established
    assert sizes["blocks"] == blocks
    assert blocks * BLOCK_PAIRS >= established


def test_interfaces_are_as_many_as_in_the_map_that_is_taken_over(bpf_possible):
    with file_system() as directory:
        maps = directory / "maps"
        maps.mkdir()
        assert _sizes(Limits(), maps)["interfaces"] == 65_536
        with closing(Map.create_array(8, 1024)) as before:
            before.pin(maps / "interfaces")
        assert _sizes(Limits(), maps)["interfaces"] == 1024
