"""Real checks of small servers on loopback."""

import asyncio
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from l4lb.health.checks import run_check
from l4lb.health.rise_fall import Outcome, Result
from l4lb.model import Endpoint, HealthCheck

DEADLINE = 10.0  # seconds, for what should take none
TCP = HealthCheck("tcp", timeout=DEADLINE)
HTTP = HealthCheck("http", timeout=DEADLINE)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def endpoint(host: str, port: int) -> Endpoint:
    return Endpoint.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


async def check_served(handler: Handler, check: HealthCheck, host: str = "127.0.0.1") -> Result:
    """Check a server that treats each connection so; its handlers have ended on return."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass  # the check closes with RST
        finally:
            writer.transport.abort()
            ended.set()

    server = await asyncio.start_server(serve, host, 0)
    async with server:
        result = await run_check(endpoint(host, server.sockets[0].getsockname()[1]), check)
        async with asyncio.timeout(DEADLINE):
            await ended.wait()
    return result


def answering(*parts: bytes) -> Handler:
    """Read the request's head, send the parts, wait for the end of the connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        await reader.read()

    return handler


@contextmanager
def bound(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A port that nobody listens on, held so that nobody else takes it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} on this machine")
        yield sock


def address(sock: socket.socket) -> Endpoint:
    return endpoint(*sock.getsockname()[:2])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("check", [TCP, HTTP])
def test_refused(check: HealthCheck, host: str):
    with bound(host) as sock:
        assert asyncio.run(run_check(address(sock), check)) == Result(Outcome.FAILED, "connection refused")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp_passes(host: str):
    with bound(host) as sock:
        sock.listen()
        result = asyncio.run(run_check(address(sock), TCP))
    assert (result.outcome, result.reason) == (Outcome.PASSED, "")
    assert result.latency is not None
    assert 0 < result.latency < DEADLINE


def test_tcp_closes_with_reset_and_leaves_no_time_wait():
    with bound() as sock:
        sock.listen()
        asyncio.run(run_check(address(sock), TCP))
        sock.settimeout(DEADLINE)
        connection, _ = sock.accept()
        with connection:
            connection.settimeout(DEADLINE)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        port = f":{sock.getsockname()[1]:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        states = [line.split()[3] for line in table if port in line.split()[2]]
    assert "06" not in states  # TCP_TIME_WAIT, include/net/tcp_states.h


def test_timeout_while_connecting():
    with bound() as sock, socket.socket() as first, socket.socket() as second:
        sock.listen(0)
        # A backlog of 0 holds one connection; Linux drops the SYNs of the others.
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        result = asyncio.run(run_check(address(sock), HealthCheck("tcp", timeout=0.2)))
    assert result == Result(Outcome.FAILED, "timeout after 0.2 s while connecting")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_http_passes(host: str):
    if host == "::1":
        with bound(host):
            pass
    result = asyncio.run(check_served(answering(OK), HTTP, host))
    assert result.outcome is Outcome.PASSED, result


def test_http_does_not_wait_for_the_body():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    assert asyncio.run(check_served(answering(head), HTTP)).outcome is Outcome.PASSED


def test_http_redirect_is_not_followed():
    with bound() as elsewhere:
        head = b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:%d/\r\n\r\n" % elsewhere.getsockname()[1]
        assert asyncio.run(check_served(answering(head), HTTP)).outcome is Outcome.PASSED


def test_http_sends_what_is_configured():
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await reader.read()

    check = HealthCheck("http", timeout=DEADLINE, path="/live", host="shop.example")
    assert asyncio.run(check_served(handler, check)).outcome is Outcome.PASSED
    assert seen[0].startswith(b"GET /live HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: l4lb/")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], "HTTP 503, expected 200-399"),
        ([b"220 mail.example ESMTP\r\n"], "not an HTTP answer: '220 mail.example ESMTP'"),
        ([b"HTTP/1.1 200 " + b"a" * 100_000], "no end of the headers within 16384 bytes"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"] * 100_000, "no end of the headers within 16384 bytes"),
    ],
)
def test_http_bad_answer(parts: list[bytes], reason: str):
    assert asyncio.run(check_served(answering(*parts), HTTP)) == Result(Outcome.FAILED, reason)


def test_http_closed_before_the_status_line():
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write_eof()
        await reader.read()

    result = asyncio.run(check_served(handler, HTTP))
    assert result == Result(Outcome.FAILED, "closed before the status line")


def test_http_reset():
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        on_without_delay = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_without_delay)

    result = asyncio.run(check_served(handler, HTTP))
    assert result == Result(Outcome.FAILED, "connection reset by peer while waiting for the status line")


def test_http_no_answer():
    result = asyncio.run(check_served(answering(), HealthCheck("http", timeout=0.2)))
    assert result == Result(Outcome.FAILED, "timeout after 0.2 s while waiting for the status line")


def test_http_timeout_is_total_however_slowly_headers_drip():
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        ended = asyncio.ensure_future(reader.read())
        while not (await asyncio.wait([ended], timeout=0.02))[0]:
            writer.write(b"X: y\r\n")
        await ended

    result = asyncio.run(check_served(handler, HealthCheck("http", timeout=0.3)))
    assert result == Result(Outcome.FAILED, "timeout after 0.3 s while waiting for the end of the headers")


def test_that_the_gateway_was_away_is_no_fault_of_a_backend_that_has_answered_meanwhile():
    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection, suppress(ConnectionResetError):
            connection.recv(4096)
            connection.sendall(OK)
            connection.recv(1)

    async def scenario(listener: socket.socket) -> Result:
        checking = asyncio.create_task(run_check(address(listener), replace(HTTP, timeout=0.3)))
        for _ in range(3):  # until the SYN is sent
            await asyncio.sleep(0)
        time.sleep(0.6)  # as if it had been stopped
        return await checking

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        assert asyncio.run(scenario(listener)).outcome is Outcome.PASSED
        server.join()


def test_no_descriptors_left_says_nothing_of_the_backend():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def starved() -> Result:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            return await run_check(Endpoint.parse("127.0.0.1:9"), TCP)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    result = asyncio.run(starved())
    assert result == Result(Outcome.UNDECIDED, "the gateway cannot check: too many open files")


def test_request_that_cannot_be_written_says_nothing_of_the_backend():
    result = asyncio.run(run_check(Endpoint.parse("127.0.0.1:9"), HealthCheck("http", path="/a b")))
    assert result.outcome is Outcome.UNDECIDED
    assert result.reason.startswith("the HTTP request cannot be written")


def test_unknown_check():
    with pytest.raises(ValueError, match="'icmp' is not a check"):
        asyncio.run(run_check(Endpoint.parse("127.0.0.1:9"), HealthCheck("icmp")))


def test_cancelled_check_closes_its_socket():
    async def cancelled() -> None:
        accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda *streams: accepted.set_result(streams), "127.0.0.1", 0)
        async with server, asyncio.timeout(DEADLINE):
            target = endpoint(*server.sockets[0].getsockname())
            check = asyncio.ensure_future(run_check(target, HTTP))
            reader, writer = await accepted
            check.cancel()
            with pytest.raises(asyncio.CancelledError):
                await check
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    asyncio.run(cancelled())


CHECK_IN_NAMESPACE = """
import asyncio
from l4lb.health.checks import run_check
from l4lb.model import Endpoint, HealthCheck
print(asyncio.run(run_check(Endpoint.parse("192.0.2.1:80"), HealthCheck("tcp"))).reason)
"""


@pytest.mark.lab
@pytest.mark.parametrize(
    ("setup", "reason"),
    [
        ("true", "network is unreachable"),
        ("ip link set lo up && ip route add unreachable 192.0.2.0/24", "no route to host"),
    ],
)
def test_no_way_to_the_backend(setup: str, reason: str):
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs root, unshare and ip")
    command = f'{setup} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", command, sys.executable, CHECK_IN_NAMESPACE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
    assert (done.stdout.strip(), done.stderr) == (reason, "")


@pytest.mark.parametrize(
    ("check", "packets"),
    [
        pytest.param(TCP, {4}, id="SYN, SYN/ACK, ACK, RST"),
        pytest.param(HTTP, {6, 7, 8}, id="and request and answer, with bare ACKs or without"),
    ],
)
def test_the_packets_of_a_check_are_counted(check, packets):
    result = asyncio.run(check_served(answering(OK) if check is HTTP else silent, check))
    assert result.packets in packets


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def test_a_refused_check_is_two_packets():
    with bound() as sock:
        assert asyncio.run(run_check(endpoint(*sock.getsockname()), TCP)).packets == 2
