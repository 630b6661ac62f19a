"""How large maps are made."""

import pytest

from l4lb.datapath.ebpf.layout import BLOCK_PAIRS
from l4lb.datapath.ebpf.programs import _sizes
from l4lb.model import Limits


@pytest.mark.parametrize(("established", "blocks"), [(1, 1), (64, 1), (65, 2), (1_000_000, 15_625)])
def test_the_walk_over_established_connections_comes_to_all_of_them(established, blocks, tmp_path):
    sizes = _sizes(Limits(established=established), tmp_path)
    assert sizes["connections4"] == sizes["connections6"] == established
    assert sizes["blocks"] == blocks
    assert blocks * BLOCK_PAIRS >= established
