"""How full the accept queues of the listening TCP sockets are. Edge: a netlink socket.

From ``sock_diag(7)``, which needs no rights: the kernel walks the listening sockets only, and tells
backlog and what waits in it. ``/proc/net/tcp`` has no backlogs, and a line for each of a hundred thousand
connections.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Final

_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG, linux/netlink.h
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY, linux/sock_diag.h
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE: Final = 3
_ERROR: Final = 2
_LISTENING: Final = 1 << 10  # TCP_LISTEN of net/tcp_states.h

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST: Final = struct.Struct("=BBBBI48x")  # struct inet_diag_req_v2
_SOCKET: Final = struct.Struct("=BBBB48xIIIII")  # struct inet_diag_msg
_RECEIVE_SIZE: Final = 65_536
_PATIENCE: Final = 1.0  # seconds; the kernel answers at once


def fullest() -> float:
    """What waits for accept() over the backlog, where that is most, 0..1; 0 if nobody listens.

    Raises:
        OSError: this kernel has no sock_diag, or forbids it here.
    """
    queues = [queue for family in (socket.AF_INET, socket.AF_INET6) for queue in _dump(family)]
    return max((fullness(waiting, backlog) for waiting, backlog in queues), default=0.0)


def fullness(waiting: int, backlog: int) -> float:
    """0..1. A queue takes one connection more than its backlog (sk_acceptq_is_full())."""
    return min(1.0, waiting / (backlog + 1))


def _dump(family: int) -> Iterator[tuple[int, int]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as kernel:
        kernel.settimeout(_PATIENCE)
        kernel.send(request(family))
        more = True
        while more:
            queues, more = read(kernel.recv(_RECEIVE_SIZE))
            yield from queues


def request(family: int) -> bytes:
    """The question for all listening TCP sockets of AF_INET or AF_INET6."""
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _LISTENING)
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _DUMP, 0, 0) + body


def read(data: bytes) -> tuple[list[tuple[int, int]], bool]:
    """Waiting connections and backlog of each socket in an answer, and whether there are more answers.

    Raises:
        OSError: the kernel refuses, or an answer is cut short.
    """
    try:
        return _read(data)
    except struct.error:
        raise OSError(errno.EBADMSG, "sock_diag answers too little") from None


def _read(data: bytes) -> tuple[list[tuple[int, int]], bool]:
    queues: list[tuple[int, int]] = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if kind == _DONE:
            return queues, False
        if kind == _ERROR:
            (error,) = struct.unpack_from("=i", data, at + _HEADER.size)
            raise OSError(-error, "sock_diag is refused")
        # For a listening socket they are sk_ack_backlog and sk_max_ack_backlog: tcp_diag_get_info().
        *_, waiting, backlog, _, _ = _SOCKET.unpack_from(data, at + _HEADER.size)
        queues.append((waiting, backlog))
        at += (max(length, _HEADER.size) + 3) & ~3
    return queues, True
