"""The key file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
    ("text", "keys"),
    [
        (ONE, (b"\x01" * 32,)),
        (f"# of the shop\n\n {ONE}  # the old one\n{TWO}\n", (b"\x01" * 32, b"\xab" * 16)),
    ],
)
def test_one_or_two_keys(tmp_path: Path, text: str, keys: tuple[bytes, ...]):
    assert read_keys(key_file(tmp_path, text)) == keys


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
