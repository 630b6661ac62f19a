"""One daemon for each namespace and for each socket, and what a dead one leaves."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from l4lb.control import lock
from l4lb.control.cleanup import DaemonAnswers, clean_up
from l4lb.control.lock import (
    AnotherDaemon,
    Lock,
    Refused,
    claim_socket,
    lock_namespace,
    remove_stale_socket,
)

CLONE_NEWNET = 0x40000000
WITHIN = 5.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "l4lb.sock"


@pytest.fixture(autouse=True)
def locks(monkeypatch, tmp_path):
    """Not the real ones: a daemon may be running here."""
    monkeypatch.setattr(lock, "_DIRECTORY", tmp_path / "locks")
    return tmp_path / "locks"


def leave_stale(path):
    """A socket file as a killed daemon leaves it."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_a_namespace_has_one_lock_until_its_holder_closes_it():
    first = lock_namespace()
    with pytest.raises(AnotherDaemon) as refused:
        lock_namespace()
    assert str(refused.value) == (
        f"another l4lb daemon is running in this network namespace (process {os.getpid()}): stop it first"
    )
    first.close()
    second = lock_namespace()
    first.close()  # takes nothing from the second
    with pytest.raises(AnotherDaemon):
        lock_namespace()
    second.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for another namespace")
def test_another_namespace_has_another_lock(locks):
    def elsewhere():
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0  # this thread's alone
        with contextlib.closing(lock_namespace()):
            return len(list(locks.iterdir()))

    with contextlib.closing(lock_namespace()), ThreadPoolExecutor(1) as other:
        assert other.submit(elsewhere).result() == 2


def test_nobody_else_may_open_it_and_nothing_is_left(locks):
    """Who can open a file can hold its lock."""
    with contextlib.closing(lock_namespace()):
        (file,) = locks.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(locks.stat().st_mode) == 0o755
    assert list(locks.iterdir()) == []


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "r+")
fcntl.flock(lock, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def test_one_that_is_killed_lets_go(locks):
    with contextlib.closing(lock_namespace()):
        (file,) = locks.iterdir()
    file.write_text("4711\n")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-I", "-c", HOLD, str(file)], **pipes) as holder:
        holder.stdout.readline()
        with pytest.raises(AnotherDaemon, match=r"\(process 4711\)"):
            lock_namespace()
        holder.kill()
    with contextlib.closing(lock_namespace()):
        assert file.read_text() == f"{os.getpid()}\n"


def test_one_that_was_removed_while_it_was_waited_for_is_not_taken(locks):
    """Or two would hold a lock: this one, and the one whose file is there."""
    locks.mkdir()
    path = locks / "l4lb.sock.lock"
    first = Lock.take(path, wait=True)
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(Lock.take, path, wait=True)
        deadline = time.monotonic() + WITHIN
        while not _is_waited_for(path) and time.monotonic() < deadline:
            pass
        waited = not waiting.done()
        first.close()
        second = waiting.result()
    assert waited
    with pytest.raises(BlockingIOError):
        Lock.take(path, wait=False)
    second.close()
    assert not path.exists()


def _is_waited_for(path):
    return any(
        "->" in line and f":{path.stat().st_ino} " in line
        for line in Path("/proc/locks").read_text().splitlines()
    )


def test_a_lock_that_cannot_be_made_is_one_line(locks, path):
    locks.write_text("")
    for start in (lock_namespace, lambda: clean_up(path)):
        with pytest.raises(Refused, match=r"^cannot lock this network namespace: .*/locks: File exists$"):
            start()


def test_the_socket_and_its_directory_are_made_with_their_modes(path):
    control = claim_socket(path)
    with control.listening:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_living_daemons_socket_is_refused_and_left_alone(path):
    with claim_socket(path).listening:
        with pytest.raises(Refused, match="another l4lb daemon answers on"):
            claim_socket(path)
        assert path.exists()


def test_a_daemon_too_busy_to_accept_is_alive(path):
    with claim_socket(path).listening as listening:
        listening.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(str(path))  # fills the backlog
            with pytest.raises(Refused, match="another l4lb daemon answers on"):
                claim_socket(path)


def test_a_dead_daemons_socket_is_replaced(path):
    leave_stale(path)
    with claim_socket(path).listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_file_that_is_no_socket_is_left_alone(path):
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(Refused, match="is not a socket"):
        claim_socket(path)
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"cannot use .*/file/run for the control socket: Not a directory"):
        claim_socket(tmp_path / "file" / "run" / "l4lb.sock")


def test_a_directory_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"cannot use .*/file for the control socket: Not a directory"):
        claim_socket(tmp_path / "file" / "l4lb.sock")


def test_a_path_longer_than_the_kernel_takes(tmp_path):
    with pytest.raises(Refused, match="longer than a unix socket's path may be"):
        claim_socket(tmp_path / ("x" * 120) / "l4lb.sock")


def test_the_file_is_removed_by_who_made_it_only(path):
    first = claim_socket(path)
    path.unlink()  # by somebody who should not
    second = claim_socket(path)
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()
    leave_stale(path)
    second.close()
    assert path.exists()


def test_a_file_that_cannot_be_removed_does_not_keep_a_daemon_from_stopping(path, monkeypatch, caplog):
    def read_only(path):
        raise OSError(errno.EROFS, "Read-only file system")

    control = claim_socket(path)
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "unlink", read_only)
        control.close()
    assert control.listening.fileno() == -1
    assert caplog.messages == [f"the control socket {path} cannot be removed: Read-only file system"]


def test_stop_with_another_socket_than_the_daemons_says_so(path):
    with contextlib.closing(lock_namespace()), pytest.raises(Refused) as caught:
        clean_up(path)
    assert str(caught.value) == (
        f"a daemon is running in this network namespace, but not at {path}: name its socket with --socket"
    )


def test_nothing_is_cleaned_up_beside_the_daemon_that_answers(path):
    with contextlib.closing(lock_namespace()), claim_socket(path).listening:
        with pytest.raises(DaemonAnswers):
            clean_up(path)
        assert path.exists()


def test_a_stale_socket_is_cleaned_up_and_nothing_else(path):
    assert remove_stale_socket(path) is False
    leave_stale(path)
    assert remove_stale_socket(path) is True
    assert not path.exists()
    with claim_socket(path).listening, pytest.raises(Refused, match="answers on"):
        remove_stale_socket(path)
