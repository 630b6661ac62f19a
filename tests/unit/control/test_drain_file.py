"""The weights of drained backends from one daemon to the next."""

from __future__ import annotations

import pytest

from l4lb.control.drain_file import DrainFile
from l4lb.model import Endpoint

WEIGHTS = {
    ("web", Endpoint.parse("10.2.0.11:80")): 5,
    ("web", Endpoint.parse("10.2.0.12:80")): 65_535,
    ("six", Endpoint.parse("[2001:db8::1]:80")): 1,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "l4lb.drains"


def test_what_was_kept_is_there_for_the_next_one(path):
    assert DrainFile(path).kept == {}
    DrainFile(path).keep(WEIGHTS)
    assert DrainFile(path).kept == WEIGHTS
    assert [each.name for each in path.parent.iterdir()] == ["l4lb.drains"]


def test_without_drains_there_is_no_file(path):
    file = DrainFile(path)
    file.keep(WEIGHTS)
    file.keep({})
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "5",
        "[]",
        '{"web": 5}',
        '{"web": {"10.2.0.300:80": 5}}',
        '{"web": {"10.2.0.11:80": "5"}}',
        '{"web": {"10.2.0.11:80": true}}',
        '{"web": {"10.2.0.11:80": 0}}',
        '{"web": {"10.2.0.11:80": 65536}}',
        '{"web": {"10.2.0.11:80": 5}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_damaged_file_counts_as_empty_and_is_replaced(path, content, caplog):
    path.parent.mkdir()
    path.write_bytes(content.encode(errors="surrogateescape"))
    file = DrainFile(path)
    assert file.kept == {}
    assert caplog.messages == [
        f"{path} cannot be read (it is damaged): backends that are drained go back to weight 1"
    ]
    file.keep({})
    assert not path.exists()
    file.keep(WEIGHTS)
    assert DrainFile(path).kept == WEIGHTS


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "run").write_text("")  # not a directory
    DrainFile(tmp_path / "l4lb.drains").keep(WEIGHTS)
    assert caplog.messages == []
    DrainFile(tmp_path / "run" / "l4lb.drains").keep(WEIGHTS)
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("the weights of drained backends are not saved: ")
