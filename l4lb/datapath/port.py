"""One interface the packet process works on: its sockets, opened, lost and opened again."""

from __future__ import annotations

from l4lb.datapath.claim import HAND_BACK_MARK
from l4lb.datapath.packet_socket import PacketSocket


class Port:
    """The sockets of one interface.

    ``attached`` ones receive; any interface a route leaves by can send. Frames are handed back to the
    host's stack through a socket of their own, whose mark turns them round (datapath/shield.py).
    """

    __slots__ = ("_hand_back", "index", "name", "socket")

    def __init__(self, name: str, index: int, packet_filter: bytes | None) -> None:
        """``packet_filter`` attaches; None only sends.

        Raises:
            OSError: the interface is gone or the process may not open packet sockets.
        """
        self.name = name
        self.index = index
        self.socket = PacketSocket(name, index, packet_filter)
        self._hand_back: PacketSocket | None = None

    def hand_back(self, frame: bytes | bytearray | memoryview) -> None:
        """Give a frame to the host's stack as if it had just come in here."""
        if self._hand_back is None:
            self._hand_back = PacketSocket(self.name, self.index, mark=HAND_BACK_MARK)
        self._hand_back.send(frame)

    def close(self) -> None:
        """Close the sockets."""
        self.socket.close()
        if self._hand_back is not None:
            self._hand_back.close()
