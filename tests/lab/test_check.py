"""tools/lab check: all steps on namespaces, and what it says where there is nothing to check."""

import subprocess
from pathlib import Path

import pytest

from netlab import LabError, check, topology
from tests.lab.lab import prefix_of_this_run, remove
from tests.lab.test_lab import remains

pytestmark = pytest.mark.lab

TOOL = Path(__file__).parents[2] / "tools" / "lab"


def test_every_step_is_seen_and_nothing_is_left(lab_possible):
    prefix = prefix_of_this_run()
    try:
        done = subprocess.run(
            [TOOL, "--prefix", prefix, "check"], capture_output=True, text=True, check=False, timeout=180
        )
        left = remains(f"{prefix}-check")
    finally:
        remove(f"{prefix}-check")  # the tool may have been killed
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(":")[0] for line in done.stdout.splitlines()]
    titles = [step.title for step in check.STEPS]
    assert lines == [f"  ok   {title}" for title in titles[:-1]] + [f"  --   {titles[-1]}"]
    assert left == []


class Mute:
    """A lab whose gateway answers nothing."""

    l4lb = ("l4lb",)
    patience = 0.3

    def __init__(self, topology):
        self.topology = topology

    def command(self, host, *argv):
        return ["sh", "-c", "echo no daemon answers >&2; exit 1"]


def test_what_fails_is_said_in_one_line_with_its_step():
    with pytest.raises(LabError) as caught:
        list(check.check(Mute(topology.load())))
    assert str(caught.value) == (
        "The client reaches every backend through the VIP: waited 0.3 s for web1 to be up: "
        "'l4lb backend list web --json' on gateway: no daemon answers"
    )
