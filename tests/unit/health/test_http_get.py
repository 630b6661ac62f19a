"""The HTTP check as bytes in, verdict out."""

import pytest

from l4lb.health.http_get import HEAD_LIMIT, HttpGet
from l4lb.health.talk import BadAnswer
from l4lb.model import Endpoint, HealthCheck

TARGET = Endpoint.parse("10.2.0.11:8080")


def get(**options) -> HttpGet:
    return HttpGet(TARGET, HealthCheck("http", **options))


def feed(answer: bytes, step: int = 4096, **options) -> bool:
    """True if the answer is good, False if it is good so far and not at its end."""
    request = get(**options)
    return any(request.receive(answer[at : at + step]) for at in range(0, len(answer), step))


def test_request():
    lines = get(path="/healthz?full=1", host="www.example.net").request.split(b"\r\n")
    assert lines[0] == b"GET /healthz?full=1 HTTP/1.1"
    assert lines[1] == b"Host: www.example.net"
    assert lines[2].startswith(b"User-Agent: l4lb/")
    assert lines[3:] == [b"Connection: close", b"", b""]


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("10.2.0.11:80", b"10.2.0.11"),
        ("10.2.0.11:8080", b"10.2.0.11:8080"),
        ("[2001:db8::80]:80", b"[2001:db8::80]"),
        ("[2001:db8::1]:81", b"[2001:db8::1]:81"),
    ],
)
def test_host_is_the_backends_own_address(target: str, host: bytes):
    assert b"\r\nHost: " + host + b"\r\n" in HttpGet(Endpoint.parse(target), HealthCheck("http")).request


@pytest.mark.parametrize(
    ("path", "host"), [("/a b", None), ("/\r\nX: y", None), ("/ä", None), ("/", "a\nb")]
)
def test_request_that_cannot_be_written(path: str, host: str | None):
    with pytest.raises(ValueError, match=r"^the HTTP request cannot be written: .+$"):
        get(path=path, host=host)


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
        b"HTTP/1.1 200 OK\nServer: bare line feeds\n\n",
    ],
)
def test_good(answer: bytes, step: int):
    assert feed(answer, step)


def test_headers_are_awaited():
    assert not feed(b"HTTP/1.1 200 OK\r\nServer: slow\r\n")


@pytest.mark.parametrize(
    ("status", "expected", "reason"),
    [
        (503, ((200, 399),), "HTTP 503, expected 200-399"),
        (200, ((204, 204),), "HTTP 200, expected 204"),
        (404, ((200, 299), (401, 401)), "HTTP 404, expected 200-299, 401"),
    ],
)
def test_other_status(status: int, expected: tuple[tuple[int, int], ...], reason: str):
    with pytest.raises(BadAnswer) as bad:
        feed(b"HTTP/1.1 %d Whatever\r\n\r\n" % status, status=expected)
    assert str(bad.value) == reason


@pytest.mark.parametrize("status", [200, 204, 299, 401])
def test_ranges_are_inclusive(status: int):
    assert feed(b"HTTP/1.1 %d Whatever\r\n\r\n" % status, status=((200, 299), (401, 401)))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", r"not an HTTP answer: 'SSH-2.0-OpenSSH_9.2p1'"),
        (b"\x15\x03\x01\x00\x02\x02F", r"not an HTTP answer: '\x15\x03\x01\x00\x02\x02F'"),
        (b"x" * 4096, "not an HTTP answer: '" + "x" * 40 + "'"),
        (
            b"HTTP/1.1 abc OK\r\n\r\n",
            "broken HTTP answer: illegal status line: bytearray(b'HTTP/1.1 abc OK')",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "broken HTTP answer: bad Content-Length"),
        (b"HTTP/1.1 200 " + b"y" * HEAD_LIMIT, "no end of the headers within 16384 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000, "no end of the headers within 16384 bytes"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "no end of the headers within 16384 bytes"),
    ],
)
def test_broken_answer(answer: bytes, reason: str):
    with pytest.raises(BadAnswer) as bad:
        feed(answer)
    assert str(bad.value) == reason


def test_reason_stays_short_and_on_one_line():
    with pytest.raises(BadAnswer) as bad:
        feed(b"HTTP/1.1 200 OK\r\n" + b"no colon \x1b[31m\x00" * 500 + b"\r\n\r\n")
    assert len(str(bad.value)) < 140
    assert str(bad.value).isprintable()


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (b"", "closed before the status line"),
        (b"HTTP/1.1 200", "closed before the status line"),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n", "closed before the end of the headers"),
    ],
)
def test_cut_short(before: bytes, reason: str):
    request = get()
    if before:
        assert not request.receive(before)
    with pytest.raises(BadAnswer) as bad:
        request.receive(b"")
    assert str(bad.value) == reason
