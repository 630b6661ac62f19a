"""Accept queues, as the kernel tells them."""

from __future__ import annotations

import socket
import struct

import pytest

from l4lb.agent.listen_queues import fullest, fullness, read, request


def listening(waiting: int, backlog: int) -> bytes:
    body = struct.pack("=4B48x5I", 2, 10, 0, 0, 0, waiting, backlog, 0, 0)
    return struct.pack("=IHHII", 16 + len(body), 20, 2, 0, 0) + body


DONE = struct.pack("=IHHIIi", 20, 3, 2, 0, 0, 0)


@pytest.mark.parametrize(
    ("waiting", "backlog", "expected"),
    [(0, 128, 0.0), (0, 0, 0.0), (1, 0, 1.0), (2, 3, 0.5), (200, 128, 1.0)],
)
def test_a_queue_takes_one_more_than_its_backlog(waiting: int, backlog: int, expected: float):
    assert fullness(waiting, backlog) == expected


def test_an_answer_of_the_kernel_in_two_parts():
    assert read(listening(1, 128) + listening(5, 10)) == ([(1, 128), (5, 10)], True)
    assert read(listening(0, 511) + DONE) == ([(0, 511)], False)


def test_a_kernel_that_refuses():
    error = struct.pack("=IHHIIi16x", 36, 2, 0, 0, 0, -2)
    with pytest.raises(OSError, match="sock_diag is refused"):
        read(error)


@pytest.mark.parametrize("answer", [listening(1, 128)[:60], struct.pack("=IHHII", 16, 2, 0, 0, 0)])
def test_an_answer_that_is_cut_short_is_an_error_like_any_other(answer: bytes):
    with pytest.raises(OSError, match="sock_diag answers too little"):
        read(answer)


def test_the_request_is_for_listening_tcp_sockets():
    assert request(socket.AF_INET6)[16:24] == struct.pack("=4BI", 10, 6, 0, 0, 1 << 10)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_full_queue_of_this_host_is_seen_and_an_empty_one_again(host: str):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} on this machine")
        server.listen(1)
        with socket.create_connection(server.getsockname()[:2]):
            assert fullest() >= 0.5
            with socket.create_connection(server.getsockname()[:2]):
                assert fullest() == 1.0
