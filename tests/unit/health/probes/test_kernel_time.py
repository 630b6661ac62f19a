"""Stamps of the kernel, and clocks that jump."""

import socket
import struct

import pytest

from l4lb.health.kernel_time import Moment, round_trip, stamp, stamp_received

MILLISECOND, SECOND = 1_000_000, 1_000_000_000
WALL = 5 * SECOND


@pytest.mark.parametrize(
    ("received", "wall", "seconds"),
    [
        pytest.param(40, 100, 0.040, id="the event loop was slow"),
        pytest.param(None, 100, 0.100, id="no stamp"),
        pytest.param(-1000, 100, 0.100, id="a stamp from before the question"),
        pytest.param(1000, 100, 0.100, id="a stamp from after the answer"),
        pytest.param(40, 40, 0.100, id="the wall clock was set back by less than the time"),
        pytest.param(90, 150, 0.100, id="the wall clock was set forward after the answer"),
        pytest.param(-3600, -3500, 0.100, id="the wall clock was set back by far"),
        pytest.param(99, 99.5, 0.099, id="the clocks were not read at quite the same moment"),
    ],
)
def test_stamps_are_believed_where_the_monotonic_clock_allows_it(received, wall, seconds):
    """All in milliseconds from the question on; the monotonic clock says 100."""
    ended = Moment(WALL + round(wall * MILLISECOND), 100 * MILLISECOND)
    stamped = None if received is None else WALL + received * MILLISECOND
    assert round_trip(Moment(WALL, 0), stamped, ended) == pytest.approx(seconds)


def test_the_questions_own_stamp_is_better_than_when_it_was_given_to_the_kernel():
    ended = Moment(WALL + 100 * MILLISECOND, 100 * MILLISECOND)
    times = (Moment(WALL, 0), WALL + 90 * MILLISECOND, ended)
    assert round_trip(*times, WALL + 70 * MILLISECOND) == pytest.approx(0.020)
    assert round_trip(*times, WALL + 95 * MILLISECOND) == pytest.approx(0.100)


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
