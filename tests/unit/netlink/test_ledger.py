"""What is remembered between one run and the next."""

import errno
import json
from ipaddress import ip_address

import pytest

from l4lb.netlink.ledger import Ledger, Place

VIP4, VIP6 = ip_address("10.1.0.100").packed, ip_address("2001:db8::100").packed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "vips.json"


def saved(path, place):
    ledger = Ledger(path)
    ledger.record(VIP4, place)
    ledger.save()


def test_the_next_run_knows_what_this_one_added(path):
    ledger = Ledger(path)
    ledger.record(VIP4, Place("eth0", 2))
    ledger.record(VIP6, Place("eth1", 3))
    ledger.forget(VIP4)
    assert ledger.unsaved() == [VIP6]
    assert list(Ledger(path)) == []
    ledger.save()
    assert ledger.unsaved() == []

    ledger = Ledger(path)
    assert list(ledger) == [VIP6]
    assert ledger.place(VIP6) == Place("eth1", 3)
    assert ledger.interface(VIP6) == "eth1"
    assert (ledger.place(VIP4), ledger.interface(VIP4)) == (None, None)


def test_there_is_no_file_when_there_is_nothing_to_remember(path):
    ledger = Ledger(path)
    assert list(ledger) == []
    ledger.record(VIP4, Place("eth0", 2))
    ledger.save()
    ledger.forget(VIP4)
    ledger.forget(VIP6)
    ledger.save()
    assert list(path.parent.iterdir()) == []


def test_an_address_is_at_one_interface_at_a_time(path):
    ledger = Ledger(path)
    ledger.record(VIP4, Place("eth0", 2))
    ledger.record(VIP4, Place("eth1", 3))
    ledger.save()
    assert Ledger(path).interface(VIP4) == "eth1"


def test_the_former_format_is_understood(path):
    saved(path, Place("eth0", 2, settled=False))
    content = json.loads(path.read_text())
    content["addresses"] = dict.fromkeys(content["addresses"], "eth0")
    path.write_text(json.dumps(content))
    assert Ledger(path).place(VIP4) == Place("eth0", 0, settled=True)


def test_what_was_added_before_a_reboot_is_not_ours_now(path):
    saved(path, Place("eth0", 2))
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "boot": "another"}))
    assert list(Ledger(path)) == []


@pytest.mark.parametrize("content", ["", "[]", "{", '{"addresses": {}}', "\x00"])
def test_a_damaged_file_counts_as_empty_and_is_complained_about(path, caplog, content):
    path.parent.mkdir()
    path.write_text(content)
    assert list(Ledger(path)) == []
    assert f"{path} cannot be read (it is damaged)" in caplog.text


def test_a_damaged_file_is_not_quoted(path, caplog):
    path.parent.mkdir()
    path.write_bytes(b"\x80" * 4096)
    assert list(Ledger(path)) == []
    assert len(caplog.messages[0]) < 300


def test_what_stands_in_the_file_already_needs_no_room_for_a_new_one(path, monkeypatch):
    saved(path, Place("eth0", 2))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("l4lb.files.replacing", full)
    ledger = Ledger(path)
    ledger.record(VIP4, Place("eth0", 2))
    ledger.save()
    ledger.record(VIP6, Place("eth0", 2))
    with pytest.raises(OSError, match="No space left"):
        ledger.save()
    assert list(ledger) == [VIP4]


def test_a_write_that_fails_leaves_no_half_a_file(path):
    ledger = Ledger(path)
    path.mkdir(parents=True)  # cannot be replaced by a file
    ledger.record(VIP4, Place("eth0", 2))
    with pytest.raises(IsADirectoryError):
        ledger.save()
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_noted_that_cannot_be_written(path):
    path.parent.write_text("a file where the folder should be")
    ledger = Ledger(path)
    ledger.record(VIP4, Place("eth0", 2))
    with pytest.raises(OSError, match=r"exists|directory"):
        ledger.save()
    assert list(ledger) == []
