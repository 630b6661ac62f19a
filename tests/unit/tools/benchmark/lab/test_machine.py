import os

import pytest

from benchmark.lab.machine import only_bench
from netlab import LabError


@pytest.mark.skipif(os.geteuid() != 0, reason="no root: the benchmark is for it alone")
def test_a_program_that_is_needed_and_not_there_is_named_before_anything_is_made():
    with pytest.raises(LabError, match=r"^l4none is not installed: "), only_bench("l4none", ["l4none"]):
        pass
