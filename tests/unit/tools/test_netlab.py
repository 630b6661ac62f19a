"""What the lab says when a command hangs, a file is damaged or another tool is at work: one line each."""

import os

import pytest

from netlab import LabError, command
from netlab.record import Record, alone


def test_a_command_that_does_not_end_is_named(monkeypatch):
    monkeypatch.setattr(command, "_LONGEST", 0.1)
    with pytest.raises(LabError, match=r"^'sleep 9' has not ended after 0.1 s$"):
        command.run(["sleep", "9"])


@pytest.mark.parametrize("text", ["", '{"boot": '])
def test_a_damaged_record_is_named_with_what_to_remove(tmp_path, text):
    path = tmp_path / "l4lb" / "record.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(LabError) as caught:
        Record.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path} is no record of a lab")
    assert said.endswith(f"remove {path.parent} and the namespaces l4lb-*")


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
            os.unlink(f"/run/l4lb-lab.{name}.lock")
