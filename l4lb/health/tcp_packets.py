"""How many packets a TCP connection has caused, as the kernel counted them. Edge: a socket option."""

from __future__ import annotations

import socket
import struct
from typing import Final

_SEGMENTS: Final = struct.Struct("@II")
_SEGMENTS_AT: Final = 136
"""tcpi_segs_out and tcpi_segs_in in struct tcp_info (linux/tcp.h; RFC 4898), since Linux 4.2."""

_RESET_ON_CLOSE: Final = frozenset({1, 8})  # TCP_ESTABLISHED, TCP_CLOSE_WAIT


def packets_until_reset(sock: socket.socket) -> int:
    """What was sent and received on a connection, and the RST that closing it will send if it is set to."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEGMENTS_AT + _SEGMENTS.size)
    sent, received = _SEGMENTS.unpack_from(info, _SEGMENTS_AT)
    return int(sent) + int(received) + (info[0] in _RESET_ON_CLOSE)
