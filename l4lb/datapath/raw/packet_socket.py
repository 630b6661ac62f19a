"""Packet sockets: whole frames in and out of one interface (packet(7), linux/if_packet.h)."""

from __future__ import annotations

import ctypes
import errno
import socket
from pathlib import Path
from struct import Struct
from typing import Final

# linux/if_packet.h and asm-generic/socket.h; the socket module does not name them.
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32
_SO_MARK: Final = 36
_ETH_P_ALL: Final = 0x0003
_NOTHING: Final = 0  # a socket bound to protocol 0 receives no frames
_BPF_INSTRUCTION: Final = 8
_OPTMEM_MAX: Final = Path("/proc/sys/net/core/optmem_max")
_OPTMEM_MAX_BEFORE_6_8: Final = 20_480

RECEIVE_BUFFER: Final = 32 << 20
"""Bytes of kernel memory for frames not read yet: about 450 GSO frames of 64 KB with their overhead,
some milliseconds at the pace of the slow path."""

_STATISTICS = Struct("=II")
_REJECT_ALL: Final = Struct("=HBBI").pack(0x06, 0, 0, 0)  # ret #0


class PacketSocket:
    """Sends on one interface, and receives what a filter lets through if given one.

    Frames carry the virtio-net header in front in both directions (wire/frame.py), so GSO frames
    and partial checksums pass as they are. Frames that this host sends are not received. A VLAN tag
    that the kernel took out of a frame would be in PACKET_AUXDATA; the filter leaves frames of a VLAN to
    the VLAN's own interface, so that only the tag of VLAN 0 could be there, which is a priority.

    Raises:
        OSError: the interface is gone, or the process lacks CAP_NET_RAW.
    """

    __slots__ = ("_socket", "index", "overruns", "receive_into", "send")

    def __init__(self, name: str, index: int, packet_filter: bytes | None = None, mark: int = 0) -> None:
        self.index = index
        self.overruns = 0
        protocol = _NOTHING if packet_filter is None else _ETH_P_ALL
        # Protocol 0 at first: nothing may come in before the filter is in place.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, RECEIVE_BUFFER)
            if mark:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            if packet_filter is not None:
                self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
                self.set_filter(packet_filter)
            self._socket.bind((name, protocol))
        except OSError:
            self._socket.close()
            raise
        self.receive_into = self._socket.recv_into
        self.send = self._socket.send

    def fileno(self) -> int:
        """For polling."""
        return self._socket.fileno()

    def set_filter(self, program: bytes) -> None:
        """Replace the classic BPF filter (``struct sock_filter``s) at once."""
        buffer = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog: unsigned short len; struct sock_filter *filter
        fprog = Struct("@HP").pack(len(program) // _BPF_INSTRUCTION, ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)

    def stop_receiving(self) -> None:
        """Let nothing more in; what is queued can still be read."""
        self.set_filter(_REJECT_ALL)

    def read_overruns(self) -> int:
        """Frames the kernel has dropped because our queue was full, since the socket was made."""
        data = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        self.overruns += _STATISTICS.unpack(data)[1]  # reading resets the kernel's count
        return self.overruns

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def option_memory() -> int:
    """Bytes of memory that the options of one socket may take, filters included."""
    try:
        return int(_OPTMEM_MAX.read_text())
    except (OSError, ValueError):
        return _OPTMEM_MAX_BEFORE_6_8


INTERFACE_GONE: Final = frozenset({errno.ENETDOWN, errno.ENXIO, errno.ENODEV})
"""Errors of a socket whose interface is down or has disappeared."""
