"""The servers and the clients that latency is measured with, on loopback."""

import itertools
import json
import socket
import socketserver
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from benchmark.latency.generator import Answer, Order
from benchmark.latency.pool import Server, script

_HOST = "127.0.0.1"
_SECONDS = 20.0  # for whatever should have happened long before


@pytest.fixture
def port() -> int:
    with socket.create_server((_HOST, 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def server(port: int) -> Iterator[Server]:
    pipe = subprocess.PIPE
    command = script("server", "one", _HOST, str(port), "2")
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        it = Server("one", _HOST, "here", process.stdin, process.stdout)
        it.follow([])
        yield it
        process.kill()


def requests(port: int, arrivals: list[tuple[float, float]], **more: Any) -> list[Answer]:
    """What the generator says of requests to the server."""
    clients = {"requests": 1, "patience": _SECONDS, "tries": 1, "start": time.monotonic() + 0.5}
    order = Order(host=_HOST, port=port, arrivals=arrivals, **{**clients, **more})
    done = subprocess.run(
        script("generator"), input=json.dumps(asdict(order)), stdout=subprocess.PIPE, text=True, check=True
    )
    return [Answer(**answer) for answer in json.loads(done.stdout)]


@pytest.mark.parametrize("kept", [1, 3])
def test_every_request_is_answered_once_and_takes_its_work(server: Server, port: int, kept: int):
    answers = requests(port, [(0.01 * number, 0.05) for number in range(10)], requests=kept)
    assert [answer.time for answer in answers] == [0.01 * number for number in range(10)]
    assert {answer.backend for answer in answers} == {"one"}
    assert min(answer.latency for answer in answers) >= 0.05
    # Two at a time: the last has to wait for four turns.
    assert answers[-1].latency >= 5 * 0.05 - answers[-1].time
    assert server.follow([]).served == 10


def test_latency_counts_from_when_the_request_should_have_come(server: Server, port: int):
    answers = requests(port, [(0.0, 0.0), (0.1, 0.0)], start=time.monotonic() - 1.0)
    assert all(answer.late >= 0.9 for answer in answers)
    assert all(answer.latency >= answer.late for answer in answers)


def test_clients_give_up_a_server_that_stalls_and_come_again(server: Server, port: int):
    server.follow([(0.0, 0.0, 1.0)])
    (answer,) = requests(port, [(0.0, 0.01)], patience=0.1, tries=3)
    assert (answer.backend, answer.failures) == (None, ["timeout"] * 3)
    assert answer.latency >= 0.3


def test_a_server_that_stalled_answers_when_it_is_itself_again(server: Server, port: int):
    start = time.monotonic() + 0.5
    server.follow([(0.0, 0.0, 1.0), (start + 0.5, 1.0, 1.0)])
    (answer,) = requests(port, [(0.0, 0.0)], start=start)
    assert answer.backend == "one"
    assert answer.latency >= 0.5


def test_nobody_there_is_refused(port: int):
    (answer,) = requests(port, [(0.0, 0.0)])
    assert (answer.backend, answer.failures) == (None, ["refused"])


def connect(port: int) -> socket.socket:
    return socket.create_connection((_HOST, port), timeout=_SECONDS)


class Numbered(socketserver.StreamRequestHandler):
    """Answers each request with the number of its connection."""

    connections = itertools.count()

    def handle(self) -> None:
        number = b"%d" % next(self.connections)
        asked = b""
        while line := self.rfile.readline():
            asked += line
            if line == b"\r\n":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + number + b"\n")
                if b"Connection: close" in asked:
                    return
                asked = b""


def test_a_connection_is_kept_for_its_number_of_requests_and_no_more():
    with socketserver.ThreadingTCPServer((_HOST, 0), Numbered) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            answers = requests(listener.server_address[1], [(0.05 * n, 0.0) for n in range(20)], requests=3)
        finally:
            listener.shutdown()
            thread.join()
    assert max(Counter(answer.backend for answer in answers).values()) == 3


def test_a_server_that_is_left_serves_the_next(server: Server, port: int):
    with connect(port) as first, connect(port) as second:
        for client in (first, second):
            client.sendall(b"GET /1000 HTTP/1.1\r\n\r\n")
    with connect(port) as third:
        third.sendall(b"GET /0 HTTP/1.0\r\n\r\n")
        assert third.makefile("rb").read().endswith(b"\r\n\r\none\n")
