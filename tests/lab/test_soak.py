"""tools/soak in its shortest form. It is made to run for minutes and hours."""

import subprocess
from pathlib import Path

import pytest

from tests.lab.test_lab import remains

pytestmark = pytest.mark.lab

SOAK = Path(__file__).parents[2] / "tools" / "soak"


@pytest.mark.datapath("raw", "xdp")  # behind xdp there is tc
def test_nothing_is_left_of_what_was_counted(datapath, prefix):
    done = subprocess.run(
        [SOAK, "--minutes", "0.2", "--datapath", datapath, "--prefix", prefix],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "when the clients were cut off" in done.stdout
    assert remains(prefix) == []
