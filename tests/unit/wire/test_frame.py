"""The layout of a frame."""

import struct

from l4lb.wire import frame
from l4lb.wire.frame import PLAIN, VnetHeader, new_frame


def test_offsets_are_those_of_the_headers_in_a_row():
    assert len(PLAIN) == frame.ETHERNET == 10
    assert frame.ETHERNET + 12 == frame.ETHERTYPE
    assert frame.ETHERNET + 14 == frame.IP


def test_the_largest_frame_fits():
    assert frame.IP + 65_535 < frame.FRAME_MAX


def test_a_virtio_header_is_native_and_comes_back():
    header = VnetHeader(1, 4, 74, 1448, 54, 16)
    buffer = bytearray(100)
    header.write(buffer)
    assert buffer[:10] == struct.pack("=BBHHHH", *header)
    assert not any(buffer[10:])
    assert VnetHeader.read(buffer) == header


def test_a_new_frame_says_nothing_of_offload_or_neighbours():
    made = new_frame(frame.ETHERTYPE_IPV6, b"packet")
    assert VnetHeader.read(made) == VnetHeader()
    assert made == bytes(22) + b"\x86\xddpacket"
