"""HTTP probes against servers on the loopback interface."""

import asyncio
import socket
import threading
from dataclasses import replace

import pytest

from l4lb.health.probes import http
from l4lb.health.probes.result import Outcome
from l4lb.model import Endpoint, HealthCheck

CHECK = HealthCheck("http", timeout=5.0, path="/healthz")
GOOD = b"HTTP/1.1 204 No Content\r\n\r\n"


def probe(*answer, timeout=2.0, check=CHECK):
    """Of a server that sends these pieces, waiting after each for the event of the next one, and what
    it was asked."""
    asked = []

    def serve(server: socket.socket) -> None:
        connection = server.accept()[0]
        with connection:
            asked.append(connection.recv(4096))
            for piece in answer:
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    piece.wait(5)
            connection.settimeout(5)
            try:
                assert connection.recv(1) != b"", "the probe ends with a RST"
            except ConnectionResetError:
                asked.append("reset")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        target = Endpoint(b"\x7f\0\0\1", server.getsockname()[1])
        result = asyncio.run(http.probe(target, replace(check, timeout=timeout)))
        thread.join()
    return result, asked


def test_the_request_is_the_one_of_the_check_and_the_end_is_a_reset():
    result, asked = probe(GOOD)
    assert (result.outcome, result.reason) == (Outcome.ANSWERED, "")
    assert 0 < result.round_trip < 2
    assert asked[0].startswith(b"GET /healthz HTTP/1.1\r\n")
    assert asked[1] == "reset"


def test_packets_are_those_of_the_connection():
    result, _ = probe(GOOD)
    # SYN, SYN/ACK, ACK, request, answer, RST; either side may or may not have sent a bare ACK.
    assert 6 <= result.packets <= 8


def test_the_time_ends_at_the_first_byte_and_not_at_the_end_of_the_head():
    class Pause(threading.Event):
        """Longer than the rest of the exchange takes."""

        def wait(self, timeout=None):
            return super().wait(0.3)

    result, _ = probe(GOOD[:9], Pause(), GOOD[9:])
    assert result.outcome is Outcome.ANSWERED
    assert result.round_trip < 0.3


def test_another_status_is_no_answer_however_quick():
    result, _ = probe(b"HTTP/1.1 503 Busy\r\n\r\n")
    assert (result.outcome, result.round_trip) == (Outcome.WRONG, None)
    assert result.reason == "HTTP 503, expected 200-399"


def test_a_server_that_accepts_and_never_answers():
    done = threading.Event()
    done.set()
    result, _ = probe(timeout=0.05)
    assert (result.outcome, result.round_trip) == (Outcome.LOST, None)
    assert result.reason == "timeout after 0.05 s while waiting for the status line"
    assert result.packets >= 5


def test_a_closed_port_refuses():
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Endpoint(b"\x7f\0\0\1", server.getsockname()[1])
    result = asyncio.run(http.probe(target, CHECK))
    assert (result.outcome, result.packets) == (Outcome.REFUSED, 2)


def test_an_answer_byte_by_byte_is_given_up():
    head = b"HTTP/1.1 200 OK\r\nX: " + bytes(range(97, 123)) * 8

    def serve(server: socket.socket) -> None:
        connection = server.accept()[0]
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(4096)
            try:
                for byte in head:
                    connection.sendall(bytes((byte,)))
                    pause.wait(0.002)
            except ConnectionError:
                return

    pause = threading.Event()  # which nobody ends
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        result = asyncio.run(http.probe(Endpoint(b"\x7f\0\0\1", server.getsockname()[1]), CHECK))
        thread.join()
    assert result.outcome is Outcome.WRONG
    assert result.reason.endswith(" packets without the status line, 36 are waited for")
    assert 36 < result.packets < 100


@pytest.mark.parametrize("check", [HealthCheck("http", path="/\xe4"), HealthCheck("http", host="a\nb")])
def test_a_request_that_cannot_be_written_is_not_sent(check):
    result = asyncio.run(http.probe(Endpoint(b"\x7f\0\0\1", 9), check))
    assert (result.outcome, result.packets) == (Outcome.UNSENT, 0)
    assert "cannot be written" in result.reason
