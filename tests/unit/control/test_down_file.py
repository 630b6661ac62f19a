"""Which backends are down, from one daemon to the next."""

from __future__ import annotations

import json
import time

import pytest

from l4lb.control.down_file import DownFile
from l4lb.health.runner import Down
from l4lb.model import Endpoint

A, SIX = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("[2001:db8::1]:80")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "l4lb.down"


@pytest.fixture
def clocks(monkeypatch):
    """Those of the wall and of the boot."""
    clocks = {"time": 1_700_000_000.0, "monotonic": 500.0}
    for name in clocks:
        monkeypatch.setattr(time, name, lambda name=name: clocks[name])
    return clocks


def test_what_was_kept_is_there_for_the_next_one(path):
    downs = {("web", A): Down("0f", 12.5, "HTTP 503, expected 200"), ("six", SIX): Down("ab", 7.0, "")}
    DownFile(path).keep(downs)
    assert DownFile(path).kept == {
        target: Down(down.check, pytest.approx(down.since), down.reason) for target, down in downs.items()
    }


def test_the_time_goes_on_through_a_boot(path, clocks):
    DownFile(path).keep({("web", A): Down("0f", 480.0, "timeout")})
    assert json.loads(path.read_text())["web"]["10.2.0.11:80"]["since"] == 1_699_999_980.0
    clocks.update(time=1_700_000_100.0, monotonic=30.0)
    assert DownFile(path).kept == {("web", A): Down("0f", -90.0, "timeout")}


def test_what_was_read_and_stays_is_not_written_again(path, clocks):
    DownFile(path).keep({("web", A): Down("0f", 480.1, "timeout")})
    clocks.update(time=1_700_000_100.7, monotonic=600.9)
    file, before = DownFile(path), path.stat()
    file.keep(dict(file.kept))
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "value",
    [
        "5",
        "{}",
        '{"check": "0f", "since": 1.0}',
        '{"check": "0f", "since": "1.0", "reason": ""}',
        '{"check": "0f", "since": NaN, "reason": ""}',
        '{"check": 5, "since": 1.0, "reason": ""}',
        '{"check": "0f", "since": 1.0, "reason": null}',
    ],
)
def test_a_damaged_file_counts_as_empty(path, value, caplog):
    path.parent.mkdir()
    path.write_text(f'{{"web": {{"{A}": {value}}}}}')
    assert DownFile(path).kept == {}
    assert caplog.messages == [
        f"{path} cannot be read (it is damaged): "
        "backends that are down get new connections until their first check"
    ]


def test_a_file_that_cannot_be_written_is_one_warning_for_each_change(tmp_path, caplog):
    """It is asked for with every change of the kernel's routes, which may be many a second."""
    (tmp_path / "run").write_text("")  # not a directory
    path = tmp_path / "run" / "l4lb.down"
    file, downs = DownFile(path), {("web", A): Down("0f", 480.0, "timeout")}
    caplog.clear()  # it cannot be read either
    for _ in range(3):
        file.keep(downs)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"which backends are down is not saved: {path}: ")
    file.keep({**downs, ("six", SIX): Down("ab", 481.0, "")})
    assert len(caplog.messages) == 2
    (tmp_path / "run").unlink()
    file.keep(downs)
    assert DownFile(path).kept.keys() == downs.keys()
