"""What the lab says when a command hangs, a file is damaged or another tool is at work: one line each."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from netlab import LabError, command, vm
from netlab.record import Record, alone, lock_of

TOOLS = Path(__file__).parents[3] / "tools"


def test_a_command_that_does_not_end_is_named(monkeypatch):
    monkeypatch.setattr(command, "_LONGEST", 0.1)
    with pytest.raises(LabError, match=r"^'sleep 9' has not ended after 0.1 s$"):
        command.run(["sleep", "9"])


def test_a_command_has_the_time_and_the_name_that_it_is_given():
    with pytest.raises(LabError, match=r"^the pause has not ended after 0.1 s$"):
        command.run(["sleep", "9"], name="the pause", timeout=0.1)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo no; echo 'not\nthis' >&2; exit 3", "not this"),
        ("echo no; exit 3", "no"),
        ("exit 3", "exit status 3"),
    ],
)
def test_a_command_that_fails_says_why_in_one_line(script, complaint):
    with pytest.raises(LabError) as caught:
        command.run(["sh", "-c", script], name="it")
    assert str(caught.value) == f"it: {complaint}"


@pytest.mark.parametrize("text", ["", '{"boot": ', "{}", "[]"])
def test_a_damaged_record_is_named_with_what_to_remove(tmp_path, text):
    path = tmp_path / "l4lb" / "record.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(LabError) as caught:
        Record.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path} is no record of a lab")
    assert said.endswith(f"remove {path.parent}, and by 'ip netns delete' its namespaces (l4lb-HOST)")


@pytest.mark.skipif(os.geteuid() != 0, reason="not root, whose the locks are")
def test_a_lab_is_for_one_tool_alone():
    prefix = f"alone{os.getpid()}"
    try:
        with (
            alone(prefix),
            pytest.raises(LabError, match=rf"^another tool is at work on the lab '{prefix}'"),
            alone(prefix),
        ):
            pass
        with alone(prefix), alone(f"{prefix}-check"):
            pass
    finally:
        for name in (prefix, f"{prefix}-check"):
            lock_of(name).unlink()


def test_the_lock_of_the_virtual_machines_outlives_who_holds_it(tmp_path, monkeypatch):
    """Who waits with the file open and who makes it anew would hold two."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with vm._directory():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["l4lb-vm.lock"]


ENDED = """\
import os, signal
from netlab.tool import end_as_after_an_error
end_as_after_an_error()
try:
    os.kill(os.getpid(), signal.{first})
finally:
    for again in (signal.SIGHUP, signal.SIGTERM):
        os.kill(os.getpid(), again)
    print("all is removed")
"""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_cut_the_removal_short(first):
    program = ENDED.format(first=first.name)
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=TOOLS, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (128 + first, "all is removed\n")
