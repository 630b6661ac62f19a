"""One daemon for each network namespace and for each control socket.

Two daemons in one namespace would both rewrite the same packets, so each namespace has a lock:
``flock(2)`` on a file that only root may open, for whoever may open one can hold it. The kernel releases
it the moment its holder dies, however it dies. The control socket is a file; the file a killed daemon left
behind is told from a living one by connecting to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Final, Self

from l4lb.privileges import refusal

log = logging.getLogger(__name__)

_DIRECTORY: Final = Path("/run/l4lb")
_NAMESPACE: Final = Path("/proc/thread-self/ns/net")
_LONGEST_PATH: Final = 107  # sockaddr_un.sun_path without its final NUL


class Refused(Exception):
    """The daemon cannot run here or now. The message is one line for people."""


class AnotherDaemon(Refused):
    """One runs in this network namespace already."""


class Lock:
    """A lock that is held until it is closed. Its file has the number of the process that holds it, and
    goes with it, unless that process is killed."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """``descriptor`` has the lock of the file, which is at ``path``."""
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, wait: bool) -> Self:
        """Make the file, for its owner only (mode 0600), and take its lock.

        Raises:
            BlockingIOError: another one holds it, and we do not ``wait``.
            OSError: the file cannot be made.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                # Who held it may have removed the file since we opened it: then another one is to be taken.
                if _is_at(path, descriptor):
                    os.truncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()}\n".encode())
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def close(self) -> None:
        """Release it and remove its file, once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            if _is_at(self._path, descriptor):
                self._path.unlink()
        except OSError as error:  # it holds nobody up
            log.warning("%s cannot be removed: %s", self._path, error.strerror)
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one at the path."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def lock_namespace() -> Lock:
    """Take this network namespace's lock.

    Raises:
        AnotherDaemon: a daemon holds it.
        Refused: its file cannot be made.
    """
    try:
        # No two namespaces that exist have the same inode, and a daemon that lives keeps its own.
        path = _DIRECTORY / f"net-{_NAMESPACE.stat().st_ino}.lock"
        _DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
        return Lock.take(path, wait=False)
    except BlockingIOError:
        raise AnotherDaemon(
            f"another l4lb daemon is running in this network namespace{_holder(path)}: stop it first"
        ) from None
    except OSError as error:
        raise Refused(f"cannot lock this network namespace: {error.filename}: {error.strerror}") from None


def _holder(path: Path) -> str:
    """Which process that is, if its file says so already."""
    try:
        number = path.read_text().strip()
    except OSError:
        return ""
    return f" (process {number})" if number.isdecimal() else ""


class ControlSocket:
    """A listening unix socket and its file."""

    def __init__(self, path: Path, listening: socket.socket) -> None:
        """``listening`` was just bound to ``path``."""
        self.path = path
        self.listening = listening
        self._identity: tuple[int, int] | None = _identity(path)

    def remove(self) -> None:
        """Remove the file, once, unless it is another daemon's by now. The socket stays open."""
        try:
            # An open socket holds its inode, so no other file can have got the number.
            if self._identity == _identity(self.path):
                self.path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:  # no reason not to stop: the next start removes it
            log.warning("the control socket %s cannot be removed: %s", self.path, error.strerror)
        self._identity = None

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.remove()
        self.listening.close()


def claim_socket(path: Path) -> ControlSocket:
    """A listening socket at ``path`` for its owner only (mode 0600), whose directory is made (0755).

    Raises:
        Refused: a daemon answers there, the file is not a socket, or the system says no.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise Refused(f"{path}: longer than a unix socket's path may be: give a shorter --socket")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Two daemons of different namespaces may start at once: one looks and binds at a time.
        lock = Lock.take(path.with_name(path.name + ".lock"), wait=True)
    except FileExistsError:
        raise Refused(f"cannot use {path.parent} for the control socket: Not a directory") from None
    except OSError as error:
        raise Refused(f"cannot use {path.parent} for the control socket: {refusal(error)}") from None
    with contextlib.closing(lock):
        try:
            remove_stale_socket(path)
            return ControlSocket(path, _bound(path))
        except OSError as error:
            raise Refused(f"cannot make the control socket {path}: {refusal(error)}") from None


def remove_stale_socket(path: Path) -> bool:
    """Remove the socket file that a killed daemon left; whether there was one.

    Raises:
        Refused: a daemon answers there, or the file is not a socket.
        OSError: it cannot be removed.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise Refused(f"{path} is in the way: it is not a socket; move it or give another --socket")
    if answers(path):
        raise Refused(f"another l4lb daemon answers on {path}: stop it first or give another --socket")
    path.unlink()
    return True


def answers(path: Path) -> bool:
    """Whether a daemon, or whoever it is, listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)  # a full backlog would make connect() wait
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            # A full backlog (EAGAIN), a socket we may not open: somebody is there.
            return True
        return True


def _bound(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # bind() gives the file the mode of the socket (unix_bind_bsd() in net/unix/af_unix.c), so it
        # is never open to others, not even for a moment.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(path))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
