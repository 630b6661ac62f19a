"""The packet process and every CLI call import some of this: it must not cost them pyroute2."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["state", "routing", "interfaces", "mirror", "watch", "vips"])
def test_pyroute2_is_imported_only_when_used(module):
    code = f"import sys, l4lb.netlink.{module}; sys.exit('pyroute2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
