"""What is written, what is left alone, what is taken away."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest

from l4lb.service.installation import RECORD, Changed, Installation
from l4lb.service.units import File

UNIT = File(PurePosixPath("/etc/systemd/system/l4lb.service"), "[Service]\nExecStart=/usr/bin/l4lb run\n")
CONFIG = File(PurePosixPath("/etc/l4lb/l4lb.toml"), "[gateway]\n", theirs=True)
NEWER_UNIT = File(UNIT.path, UNIT.text + "WatchdogSec=60\n")
NEWER_CONFIG = File(CONFIG.path, CONFIG.text + "#hold = 30\n", theirs=True)


@pytest.fixture
def installation(tmp_path):
    return Installation("l4lb.service", tmp_path)


@pytest.fixture
def at(tmp_path):
    return lambda file: tmp_path / file.path.relative_to("/")


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_what_is_missing_is_written_and_then_is_there(installation, at, tmp_path):
    assert installation.install((UNIT, CONFIG), force=False) == [
        f"{UNIT.path} installed",
        f"{CONFIG.path} installed",
    ]
    assert at(UNIT).read_text() == UNIT.text
    assert at(UNIT).stat().st_mode & 0o7777 == 0o644
    before = files(tmp_path)
    assert installation.install((UNIT, CONFIG), force=False) == [
        f"{UNIT.path} is there already",
        f"{CONFIG.path} is there already",
    ]
    assert files(tmp_path) == before


def test_what_nobody_has_touched_is_brought_up_to_date(installation, at):
    installation.install((UNIT, CONFIG), force=False)
    assert installation.install((NEWER_UNIT, NEWER_CONFIG), force=False) == [
        f"{UNIT.path} brought up to date",
        f"{CONFIG.path} brought up to date",
    ]
    assert at(UNIT).read_text() == NEWER_UNIT.text


@pytest.mark.parametrize("installed_before", [True, False])
def test_a_unit_that_somebody_has_changed_is_not_overwritten_without_force(
    installation, at, tmp_path, installed_before
):
    if installed_before:
        installation.install((UNIT, CONFIG), force=False)
    at(UNIT).parent.mkdir(parents=True, exist_ok=True)
    at(UNIT).write_text("[Service]\nExecStart=/my/own\n")
    before = files(tmp_path)
    with pytest.raises(Changed, match="--force overwrites it, and 'systemctl edit l4lb' keeps"):
        installation.install((NEWER_CONFIG, NEWER_UNIT), force=False)
    assert files(tmp_path) == before  # nothing was written, not even what comes first
    installation.install((UNIT, CONFIG), force=True)
    assert at(UNIT).read_text() == UNIT.text


def test_a_config_that_somebody_has_changed_is_never_overwritten(installation, at):
    installation.install((UNIT, CONFIG), force=False)
    at(CONFIG).write_text("mine")
    assert f"{CONFIG.path} stays as it is" in installation.install((UNIT, NEWER_CONFIG), force=True)
    assert at(CONFIG).read_text() == "mine"
    assert installation.remove() == [f"{UNIT.path} removed", f"{CONFIG.path} stays: it was changed"]
    assert at(CONFIG).read_text() == "mine"


def test_a_config_that_was_there_before_is_not_taken_away(installation, at):
    at(CONFIG).parent.mkdir(parents=True)
    at(CONFIG).write_text("mine")
    installation.install((UNIT, CONFIG), force=False)
    assert installation.remove() == [f"{UNIT.path} removed"]
    assert at(CONFIG).read_text() == "mine"


def test_a_link_to_a_config_that_is_away_stays(installation, at):
    """Its file system may come later."""
    installation.install((UNIT, CONFIG), force=False)
    at(CONFIG).unlink()
    at(CONFIG).symlink_to("/nowhere/l4lb.toml")
    assert f"{CONFIG.path} stays as it is" in installation.install((UNIT, CONFIG), force=True)
    assert f"{CONFIG.path} stays: it was changed" in installation.remove()
    assert at(CONFIG).is_symlink()
    assert f"{CONFIG.path} stays as it is" in installation.install((UNIT, CONFIG), force=False)
    assert at(CONFIG).is_symlink()


def test_a_removal_leaves_nothing(installation, tmp_path):
    assert not installation.is_recorded
    installation.install((UNIT, CONFIG), force=False)
    assert installation.is_recorded
    installation.remove()
    assert files(tmp_path) == []
    assert not (tmp_path / "etc/l4lb").exists()
    assert not (tmp_path / "var/lib/l4lb").exists()
    assert not installation.is_recorded
    assert installation.remove() == []


def test_a_removal_looks_at_every_file(installation, at):
    installation.install((UNIT, CONFIG), force=False)
    at(UNIT).write_text("changed")
    at(CONFIG).unlink()
    assert installation.remove() == [f"{UNIT.path} stays: it was changed", f"{CONFIG.path} is gone already"]


def test_two_units_are_recorded_apart(installation, at, tmp_path):
    agent = Installation("l4lb-agent.service", tmp_path)
    other = File(PurePosixPath("/etc/systemd/system/l4lb-agent.service"), "[Service]\n")
    installation.install((UNIT, CONFIG), force=False)
    agent.install((other,), force=False)
    installation.remove()
    assert at(other).exists()
    assert agent.is_recorded


@pytest.mark.parametrize("damage", ["", "{", '{"l4lb.service": '])
def test_a_damaged_record_is_none(installation, at, tmp_path, damage):
    """So that what is there counts as changed."""
    installation.install((UNIT,), force=False)
    (tmp_path / RECORD.relative_to("/")).write_text(damage)
    assert not installation.is_recorded
    with pytest.raises(Changed):
        installation.install((NEWER_UNIT,), force=False)
    installation.install((UNIT,), force=False)  # the same again is no change, and recorded
    assert list(json.loads((tmp_path / RECORD.relative_to("/")).read_text())) == ["l4lb.service"]
