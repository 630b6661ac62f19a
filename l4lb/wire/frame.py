"""The buffer a frame lives in, and the headers outside IP: virtio-net, Ethernet.

Every frame in l4lb lies in a ``bytearray`` with one fixed layout, so that the path of a packet
works with constant offsets:

    0      10       24
    | vnet | ethernet | IP ...                                   | end

The first ten bytes are the ``virtio_net_hdr`` that a packet socket with PACKET_VNET_HDR puts
before each frame (linux/virtio_net.h, native byte order): it says whether the transport checksum is
partial and whether the frame is a GSO frame that stands for many packets. Frames with a VLAN tag
inside the Ethernet header are not laid out like this: the kernel has taken out the outermost one, and
frames of a VLAN belong to its own interface.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

VNET: Final = 0
GSO_TYPE: Final = 1
ETHERNET: Final = 10
ETHERTYPE: Final = 22
IP: Final = 24
"""Offset of the IP header."""

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD

FRAME_MAX: Final = IP + 65_535 + 64
"""Bytes that hold the largest frame (a 64 KB GSO packet), with slack behind it."""

NEEDS_CHECKSUM: Final = 1
"""VIRTIO_NET_HDR_F_NEEDS_CSUM: the transport checksum is partial."""

GSO_UDP: Final = 5
"""VIRTIO_NET_HDR_GSO_UDP_L4: the frame stands for many UDP datagrams."""

_VNET = Struct("=BBHHHH")


class VnetHeader(NamedTuple):
    """``struct virtio_net_hdr``. Offsets count from the Ethernet header; 0 means unused."""

    flags: int = 0
    gso_type: int = 0  # 0: not a GSO frame
    header_length: int = 0
    gso_size: int = 0  # payload bytes per packet of a GSO frame
    checksum_start: int = 0
    checksum_offset: int = 0

    @classmethod
    def read(cls, frame: bytearray) -> VnetHeader:
        """The header at the front of ``frame``."""
        return cls(*_VNET.unpack_from(frame, VNET))

    def write(self, frame: bytearray) -> None:
        """Put this header at the front of ``frame``."""
        _VNET.pack_into(frame, VNET, *self)


PLAIN: Final = bytes(_VNET.size)
"""A vnet header that says nothing: full checksums, no GSO."""


def new_frame(ethertype: int, packet: bytes) -> bytearray:
    """A frame around an IP packet with full checksums; the Ethernet addresses are left zero, the
    next hop fills them in."""
    return bytearray(PLAIN + bytes(12) + ethertype.to_bytes(2, "big") + packet)
