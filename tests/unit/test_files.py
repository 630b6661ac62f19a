"""Files that are replaced as a whole."""

import errno
import os
import stat
import struct

import pytest

from l4lb import files


def test_a_link_in_the_new_files_place_is_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "kept"
    victim.write_text("precious")
    path.with_name(".kept.new").symlink_to(victim)
    with files.replacing(path) as file:
        file.write(b"new")
    assert (victim.read_text(), path.read_text()) == ("precious", "new")
    assert sorted(tmp_path.iterdir()) == [path, victim]


def test_what_a_killed_process_left_is_no_obstacle(tmp_path):
    path = tmp_path / "kept"
    path.with_name(".kept.new").write_text("half")
    files.keep(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_others_cannot_read_it_unless_they_may(tmp_path):
    for mode in (0o600, 0o644):
        with files.replacing(tmp_path / "kept", mode) as file:
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
        assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == mode


def test_an_error_inside_leaves_what_there_was(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")

    def write():
        with files.replacing(path) as file:
            file.write(b"ha")
            raise ValueError("lf")

    with pytest.raises(ValueError, match="lf"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_to_keep_is_no_file(tmp_path):
    path = tmp_path / "made" / "kept"
    files.keep(path, "")
    assert not path.parent.exists()
    files.keep(path, "new")
    files.keep(path, "")
    assert list(path.parent.iterdir()) == []


def test_writing_keeps_mode_and_owner_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "l4lb.toml"
    path.write_text("old")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    before = path.stat()

    files.rewrite(path, "old", "new é")

    after = path.stat()
    assert path.read_text(encoding="utf-8") == "new é"
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("accepted", [True, False])
def test_writing_keeps_who_else_may_read_the_file_where_that_can_be(tmp_path, monkeypatch, accepted):
    path = tmp_path / "l4lb.toml"
    path.write_text("old")
    path.chmod(0o640)
    entries = ((1, 6, -1), (2, 4, 1234), (4, 4, -1), (16, 4, -1), (32, 0, -1))  # user 1234 may read
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"no ACLs here: {error.strerror}")

    def refused(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not accepted:
        monkeypatch.setattr(os, "setxattr", refused)
    files.rewrite(path, "old", "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listxattr(path) == ["system.posix_acl_access"] * accepted


def test_writing_through_a_symbolic_link_keeps_the_link(tmp_path):
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text("old")
    link.symlink_to(real)
    files.rewrite(link, "old", "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_failed_write_leaves_the_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "l4lb.toml"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.rewrite(path, "old", "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_somebody_else_wrote_meanwhile_stays(tmp_path, monkeypatch):
    path = tmp_path / "l4lb.toml"
    path.write_text("old")
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        path.write_text("by hand")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(files.Changed):
        files.rewrite(path, "old", "new")
    assert path.read_text() == "by hand"
    assert list(tmp_path.iterdir()) == [path]
