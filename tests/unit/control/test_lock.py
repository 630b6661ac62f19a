"""One daemon for each namespace and for each socket, and what a dead one leaves."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess

import pytest

from l4lb.control import lock
from l4lb.control.cleanup import clean_up
from l4lb.control.lock import Refused, claim_socket, lock_namespace, remove_stale_socket


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "l4lb.sock"


@pytest.fixture(autouse=True)
def own_name(monkeypatch):
    """Not the real name: a daemon may be running here."""
    monkeypatch.setattr(lock, "_ABSTRACT_NAME", f"\0l4lb.test.{os.getpid()}")


def leave_stale(path):
    """A socket file as a killed daemon leaves it."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_a_namespace_has_one_lock_until_its_holder_closes_it():
    first = lock_namespace()
    with pytest.raises(Refused, match="another l4lb daemon is running in this network namespace"):
        lock_namespace()
    first.close()
    lock_namespace().close()


HOLD = """
import socket, sys
lock = socket.socket(socket.AF_UNIX)
lock.bind("\\0" + sys.argv[1])
lock.listen()
print(flush=True)
sys.stdin.read()
"""


def test_a_stranger_that_holds_the_lock_is_no_daemon():
    """Anybody may take the name."""
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(lock._ABSTRACT_NAME)
        with pytest.raises(Refused, match="is held by a process that is not l4lb: end it"):
            lock_namespace()


def test_who_cleans_up_is_told_of_him_and_not_of_a_daemon(path):
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(lock._ABSTRACT_NAME)
        with pytest.raises(Refused, match="is held by a process that is not l4lb: end it"):
            clean_up(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_one_of_another_user_is_named():
    command = ["/usr/bin/env", "python3", "-I", "-c", HOLD, lock._ABSTRACT_NAME[1:]]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, user=65534, group=65534, extra_groups=[], cwd="/", **pipes) as stranger:
        stranger.stdout.readline()
        with pytest.raises(
            Refused, match=f"@l4lb.* is held by process {stranger.pid} of user 65534: end it"
        ):
            lock_namespace()


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
    with lock_namespace(), pytest.raises(Refused) as caught:
        clean_up(path)
    assert str(caught.value) == (
        f"a daemon is running in this network namespace, but not at {path}: name its socket with --socket"
    )


def test_nothing_is_cleaned_up_beside_the_daemon_that_answers(path):
    with lock_namespace(), claim_socket(path).listening, pytest.raises(Refused) as caught:
        clean_up(path)
    assert str(caught.value) == f"a daemon is running, and answers at {path}: 'l4lb stop' ends it"


def test_a_stale_socket_is_cleaned_up_and_nothing_else(path):
    assert remove_stale_socket(path) is False
    leave_stale(path)
    assert remove_stale_socket(path) is True
    assert not path.exists()
    with claim_socket(path).listening, pytest.raises(Refused, match="answers on"):
        remove_stale_socket(path)
