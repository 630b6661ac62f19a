"""The key file."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from l4lb.agent import keys, small_files
from l4lb.agent.keys import BadKeyFile, read_keys

ONE, TWO = "01" * 32, "AB" * 16


def key_file(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(path: Path) -> str:
    with pytest.raises(BadKeyFile) as caught:
        read_keys(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ONE, (b"\x01" * 32,)),
        (f"# of the shop\n\n {ONE}  # the old one\n{TWO}\n", (b"\x01" * 32, b"\xab" * 16)),
    ],
)
def test_one_or_two_keys(tmp_path: Path, text: str, expected: tuple[bytes, ...]):
    assert read_keys(key_file(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no key in it"),
        ("# nothing\n", "there is no key in it"),
        ("\nsecret\n", ":2: not a key: write hexadecimal digits"),
        (ONE[1:], ":1: not a key"),
        ("\u00e9\n", ":1: not a key"),
        ("ab" * 15, ":1: the key is too short: at least 32 digits"),
        (f"{ONE}\n" * 3, "3 keys: one, or two"),
        ("00" * 4096, "larger than 4096 bytes"),
    ],
)
def test_what_is_not_a_key_file(tmp_path: Path, text: str, message: str):
    said = refused(key_file(tmp_path, text))
    assert said.startswith(str(tmp_path / "key"))
    assert message in said
    assert "secret" not in said


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o601, 0o620, 0o660])
def test_a_key_that_others_can_read_or_change(tmp_path: Path, mode: int):
    assert f"others can read or change it (mode {mode:04o})" in refused(key_file(tmp_path, ONE, mode))


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_key_that_its_owner_and_group_can_read(tmp_path: Path, mode: int):
    assert read_keys(key_file(tmp_path, ONE, mode))


def test_a_key_of_somebody_else(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    path = key_file(tmp_path, ONE)
    os.chown(path, 12345, 0)
    assert "belongs to another user (uid 12345)" in refused(path)


def test_a_file_that_is_not_there_and_what_is_no_file(tmp_path: Path):
    assert refused(tmp_path / "none").endswith("cannot read the key: No such file or directory")
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert refused(tmp_path / "fifo").endswith("not a regular file")
    assert "directory" in refused(tmp_path).lower()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that have been read."""
    seen: list[Path] = []

    def read_small(path: Path, most: int) -> object:
        seen.append(path)
        return small_files.read_small(path, most)

    monkeypatch.setattr(keys, "read_small", read_small)
    return seen


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch):
    """It is some time after the last change of any file."""
    monkeypatch.setattr(keys, "time_ns", lambda: time.time_ns() + 10_000_000_000)


@pytest.mark.usefixtures("later")
def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path, reads: list[Path]):
    path = key_file(tmp_path, ONE)
    assert [read_keys(path) for _ in range(3)] == [(b"\x01" * 32,)] * 3
    assert reads == [path]


@pytest.mark.usefixtures("later")
def test_a_file_that_has_changed_is_read_again(tmp_path: Path):
    path = key_file(tmp_path, ONE)
    before = path.stat()
    assert read_keys(path) == (b"\x01" * 32,)
    other = tmp_path / "other"
    other.write_text("02" * 32)
    other.chmod(0o600)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert read_keys(path) == (b"\x02" * 32,)
    path.chmod(0o644)
    assert "others can read or change it" in refused(path)
    path.unlink()
    assert "No such file" in refused(path)


def test_a_file_that_has_just_changed_may_change_again_before_its_times_do(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
):
    path = key_file(tmp_path, ONE)
    monkeypatch.setattr(keys, "time_ns", lambda: path.stat().st_ctime_ns + 1_000_000_000)
    assert [read_keys(path) for _ in range(2)] == [(b"\x01" * 32,)] * 2
    assert reads == [path, path]


@pytest.mark.usefixtures("later")
def test_a_bad_file_is_read_each_time(tmp_path: Path, reads: list[Path]):
    path = key_file(tmp_path, "secret")
    assert refused(path) == refused(path)
    assert reads == [path, path]
