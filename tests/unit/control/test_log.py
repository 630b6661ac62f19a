"""The lines of the log, for a terminal and for journald."""

from __future__ import annotations

import logging
import os
import re

import pytest

from l4lb.control import log as logs


@pytest.fixture(autouse=True)
def logging_as_before():
    root, ours = logging.getLogger(), logging.getLogger("l4lb")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def logged(tmp_path, level, *, journal):
    """What the calls below write to stderr."""
    with (tmp_path / "stderr").open("w+") as stream:
        status = os.fstat(stream.fileno())
        inode = status.st_ino if journal else status.st_ino + 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{inode}")
            logs.configure(level, stream)
        logger = logging.getLogger("l4lb.control.test")
        logger.debug("looked")
        logger.info("added %s", "a backend")
        logger.warning("odd")
        logger.error("bad")
        logging.getLogger("library").info("chatter")
        try:
            raise ValueError("a bug")
        except ValueError:
            logger.exception("failed")
    return (tmp_path / "stderr").read_text().splitlines()


def test_lines_have_time_and_level(tmp_path):
    lines = logged(tmp_path, "info", journal=False)
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", "", line) for line in lines[:3]] == [
        "info added a backend",
        "warning odd",
        "error bad",
    ]
    assert all(re.match(r"\d{4}-", line) for line in lines[:3])


def test_lines_for_the_journal_have_a_priority_and_no_time(tmp_path):
    lines = logged(tmp_path, "debug", journal=True)
    assert lines[:4] == ["<7>looked", "<6>added a backend", "<4>odd", "<3>bad"]
    assert lines[4] == "<3>failed"
    assert all(line.startswith("<3>") for line in lines[4:])  # the traceback too
    assert lines[-1] == "<3>ValueError: a bug"


def test_the_level_is_the_lowest_that_is_written(tmp_path):
    lines = logged(tmp_path, "error", journal=True)
    assert lines[0] == "<3>bad"


@pytest.mark.parametrize(("journal", "mark"), [(True, "<3>"), (False, "")])
def test_an_error_that_is_printed_is_one_for_the_journal(tmp_path, monkeypatch, journal, mark):
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev if journal else 0}:{status.st_ino}")
        monkeypatch.setattr("sys.stderr", stream)
        assert logs.error_mark() == mark
