"""The files that an agent looks at: the application's figure and the wanted state."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from l4lb.agent.application import Unknown, read_figure
from l4lb.agent.report import Administrative, Operating, Report
from l4lb.agent.state_file import BadState, read_state, wanted_state

MAX_AGE = 60.0


def figure_file(directory: Path, data: bytes, age: float = 0.0) -> Path:
    path = directory / "figure"
    path.write_bytes(data)
    os.utime(path, (0, time.time() - age))
    return path


@pytest.mark.parametrize(
    ("data", "figure"), [(b"0", 0.0), (b" 0.75\n", 0.75), (b"1e0", 1.0), (b"1\r\n", 1.0)]
)
def test_a_figure(tmp_path: Path, data: bytes, figure: float):
    assert read_figure(figure_file(tmp_path, data), MAX_AGE) == figure


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"nan", b"inf", b"-0.1", b"1.01", b"1e9", b"0.5 0.6", b"\xff", b"0" * 65]
)
def test_what_is_no_figure(tmp_path: Path, data: bytes):
    with pytest.raises(Unknown, match="figure: not a number from 0 to 1"):
        read_figure(figure_file(tmp_path, data), MAX_AGE)


@pytest.mark.parametrize("age", [MAX_AGE + 5, -MAX_AGE - 5])
def test_a_figure_that_is_too_old_or_of_the_future(tmp_path: Path, age: float):
    with pytest.raises(Unknown, match="not written for more than 60 s"):
        read_figure(figure_file(tmp_path, b"0.5", age), MAX_AGE)


def test_no_file_or_none_that_can_be_read(tmp_path: Path):
    with pytest.raises(Unknown, match="No such file"):
        read_figure(tmp_path / "none", MAX_AGE)
    with pytest.raises(Unknown, match="Is a directory"):
        read_figure(tmp_path, MAX_AGE)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Unknown, match="not a regular file"):  # and does not wait for a writer
        read_figure(tmp_path / "fifo", MAX_AGE)


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("drain\n", Report(administrative=Administrative.DRAIN)),
        ("MAINT", Report(administrative=Administrative.MAINT)),
        ("ready up", Report()),
        ("down # disk full\n", Report(operating=Operating.DOWN, note="disk full")),
    ],
)
def test_a_state(tmp_path: Path, text: str, report: Report):
    (tmp_path / "state").write_text(text)
    assert read_state(tmp_path / "state") == report


def test_without_the_file_a_backend_is_ready(tmp_path: Path):
    assert read_state(tmp_path / "state") == Report()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "state: the line says nothing"),
        ("drian", "state: 'drian' is not a word"),
        ("drain 50%", "state: only ready, drain, maint, up"),
        ("x" * 2000, "state: "),
    ],
)
def test_what_is_no_state(tmp_path: Path, text: str, message: str):
    (tmp_path / "state").write_text(text)
    with pytest.raises(BadState) as caught:
        read_state(tmp_path / "state")
    assert message in str(caught.value)


def test_a_state_that_cannot_be_read_leaves_the_last_one_and_is_told_once(tmp_path: Path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "state"
    wanted = wanted_state(path)
    path.write_text("drain")
    draining = wanted.read()
    assert draining.administrative is Administrative.DRAIN
    path.write_text("")  # as the shell does before it writes
    assert [wanted.read(), wanted.read()] == [draining, draining]
    path.unlink()
    assert wanted.read() == Report()
    assert caplog.messages == [
        "now up drain",
        f"{path}: the line says nothing: what it said before stays",
        "now up ready",
    ]
