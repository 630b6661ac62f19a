"""One daemon for each network namespace and for each control socket.

Two daemons in one namespace would both rewrite the same packets, so the namespace is locked by an
abstract unix socket: abstract names belong to the network namespace, and the kernel releases one
the moment its holder dies, however it dies (``unix(7)``). The control socket is a file; the file a
killed daemon left behind is told from a living one by connecting to it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_ABSTRACT_NAME: Final = "\0l4lb.daemon"
_CREDENTIALS: Final = struct.Struct("=iii")  # struct ucred: pid, uid, gid
_LONGEST_PATH: Final = 107  # sockaddr_un.sun_path without its final NUL


class Refused(Exception):
    """The daemon cannot run here or now. The message is one line for people."""


class HeldByStranger(Refused):
    """Somebody who is no daemon has the namespace's lock."""


def lock_namespace() -> socket.socket:
    """Take this network namespace's lock; it is held until the socket is closed.

    Raises:
        Refused: another daemon holds it.
        HeldByStranger: somebody does who may not be one.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        lock.bind(_ABSTRACT_NAME)
        lock.listen(1)
    except OSError:
        lock.close()
        stranger = _stranger()
        if stranger is None:
            raise Refused(
                "another l4lb daemon is running in this network namespace: stop it first"
            ) from None
        name = _ABSTRACT_NAME.replace("\0", "@")
        raise HeldByStranger(
            f"the lock of this network namespace, {name}, is held by {stranger}: end it"
        ) from None
    return lock


def _stranger() -> str | None:
    """Who holds the lock, if it is no daemon: anybody may bind an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(_ABSTRACT_NAME)
        except ConnectionRefusedError:  # it does not listen
            return "a process that is not l4lb"
        except OSError:
            return None
        pid, uid, _ = _CREDENTIALS.unpack(
            probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
    return None if uid in (0, os.geteuid()) else f"process {pid} of user {uid}"


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
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileExistsError:
        raise Refused(f"cannot use {path.parent} for the control socket: Not a directory") from None
    except OSError as error:
        raise Refused(f"cannot use {path.parent} for the control socket: {error.strerror}") from None
    try:
        # Two daemons of different namespaces may start at once: one looks and binds at a time.
        fcntl.flock(directory, fcntl.LOCK_EX)
        remove_stale_socket(path)
        return ControlSocket(path, _bound(path))
    except OSError as error:
        raise Refused(f"cannot make the control socket {path}: {error.strerror}") from None
    finally:
        os.close(directory)


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
