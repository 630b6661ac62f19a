"""Stamps of the kernel, and clocks that jump."""

import socket
import struct

import pytest

from l4lb.health.kernel_time import round_trip, stamp, stamp_received

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("sent", "received", "elapsed", "seconds"),
    [
        pytest.param(5 * SECOND, 5 * SECOND + 2_000_000, 0.010, 0.002, id="the event loop was slow"),
        pytest.param(5 * SECOND, None, 0.010, 0.010, id="no stamp"),
        pytest.param(5 * SECOND, 4 * SECOND, 0.010, 0.010, id="the wall clock was set back"),
        pytest.param(5 * SECOND, 3600 * SECOND, 0.010, 0.010, id="the wall clock was set forward"),
    ],
)
def test_stamps_are_believed_where_the_monotonic_clock_allows_it(sent, received, elapsed, seconds):
    assert round_trip(sent, received, elapsed) == pytest.approx(seconds)


def test_a_stamp_among_other_things_the_kernel_says():
    ours = (socket.SOL_SOCKET, 35, struct.pack("@qq", 3, 14))
    assert stamp([(socket.IPPROTO_IP, 8, b"x" * 12), ours]) == 3 * SECOND + 14
    assert stamp([(socket.SOL_SOCKET, 37, bytes(48))]) is None
    assert stamp([]) is None


def test_the_kernel_stamps_what_was_received_before_it_was_read():
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        one.bind(("127.0.0.1", 0))
        stamp_received(one)
        stamps = []
        for _ in range(2):
            two.sendto(b"x", one.getsockname())
        for _ in range(2):
            stamps.append(stamp(one.recvmsg(1, 512)[1]))
        assert None not in stamps
        assert stamps == sorted(stamps)
