"""The control API as such: its routes, and how it refuses and fails."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from types import SimpleNamespace

import pytest

from l4lb.control.api import server as api
from tests.unit.control.harness import (
    CONFIG,
    NEW_PATH,
    WEB1_PATH,
    with_daemon,
)

# Whose limit is met first, JSON's or that of the config which is written, and the words of RFC 9110.
DEEP = (
    "{config}: nested too deeply"
    if sys.version_info >= (3, 12)
    else "cannot add the service: nested too deeply"
)
TOO_LARGE = "Content Too Large" if sys.version_info >= (3, 13) else "Request Entity Too Large"


def test_the_docstring_lists_every_route(tmp_path):
    async def nothing():
        raise AssertionError

    routes = api.Api(SimpleNamespace(answers=None), tmp_path, nothing).application().router.routes()
    for route in routes:
        if route.method != "HEAD":  # comes with GET
            told = rf"{route.method} +{re.escape(route.resource.canonical)}(?:[? ]|$)"
            assert re.search(told, api.__doc__, re.MULTILINE), told


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "line"),
    [
        (
            "GET",
            "/v1/explain?service=web&client=[::1]:1",
            None,
            400,
            "[::1]:1 is IPv6, service 'web' is IPv4",
        ),
        ("GET", "/v1/explain?service=web", None, 400, "'address' must be text, ADDRESS:PORT"),
        ("GET", "/v1/services/shop", None, 404, "there is no service 'shop' (services: web, dns)"),
        ("GET", "/v1/backends?service=shop", None, 404, "there is no service 'shop' (services: web, dns)"),
        (
            "GET",
            "/v1/connections?service=shop",
            None,
            404,
            "there is no service 'shop' (services: web, dns)",
        ),
        ("GET", "/v1/services/", None, 404, "there is no service '' (services: web, dns)"),
        ("GET", "/v1/services/a%0ab", None, 404, r"there is no service 'a\nb' (services: web, dns)"),
        (
            "POST",
            "/v1/services//backends",
            {"address": "10.2.0.13:80"},
            404,
            "there is no service '' (services: web, dns)",
        ),
        (
            "DELETE",
            "/v1/connections?service=shop",
            None,
            404,
            "there is no service 'shop' (services: web, dns)",
        ),
        ("GET", "/v1/connections?client=me", None, 400, "'me' is not an IP address"),
        ("GET", "/v1/connections?limit=0", None, 400, "limit must be a whole number, 1 or more"),
        (
            "GET",
            "/v1/connections?backend=10.2.0.11",
            None,
            400,
            "'10.2.0.11' has no port: write ADDRESS:PORT",
        ),
        ("DELETE", "/v1/connections", None, 400, "name a service, a backend or a client, or say all=1"),
        ("DELETE", "/v1/connections?all=yes", None, 400, "all must be 0 or 1"),
        ("DELETE", NEW_PATH, None, 404, "service 'web' has no backend 10.2.0.13:80"),
        ("PATCH", NEW_PATH, {"weight": 1}, 404, "service 'web' has no backend 10.2.0.13:80"),
        ("PATCH", NEW_PATH, {"action": "enable"}, 404, "service 'web' has no backend 10.2.0.13:80"),
        ("PATCH", WEB1_PATH, {}, 400, "give 'weight', or 'action' as drain or enable"),
        ("PATCH", WEB1_PATH, {"action": "stop"}, 400, "give 'weight', or 'action' as drain or enable"),
        ("PATCH", WEB1_PATH, {"action": "drain", "weight": 1}, 400, "give 'weight' or 'action', not both"),
        ("PATCH", WEB1_PATH, {"weight": True}, 400, "'weight' must be a whole number, 0 or more"),
        ("PATCH", WEB1_PATH, {"weight": -1}, 400, "'weight' must be a whole number, 0 or more"),
        ("PATCH", WEB1_PATH, {"weight": 1, "runtime": 1}, 400, "'runtime' must be true or false"),
        ("PATCH", WEB1_PATH, {"wieght": 1}, 400, "unknown: wieght (known: weight, action, runtime)"),
        ("PATCH", WEB1_PATH, [1], 400, "the body must be a JSON object"),
        ("POST", "/v1/services/web/backends", {}, 400, "'address' must be text, ADDRESS:PORT"),
        (
            "POST",
            "/v1/services/web/backends",
            {"address": "10.2.0.300:80"},
            400,
            "'10.2.0.300' is not an IP address",
        ),
        (
            "POST",
            "/v1/services/web/backends",
            {"address": "10.2.0.11:80"},
            409,
            "service 'web' already has backend 10.2.0.11:80",
        ),
        ("POST", "/v1/services", {"service": {"name": "web"}}, 409, "there already is a service 'web'"),
        (
            "POST",
            "/v1/services",
            {},
            400,
            "'service' must be an object with the keys of [[services]] in the config file",
        ),
        ("DELETE", "/v1/services/web?runtime=true", None, 400, "runtime must be 0 or 1"),
        ("GET", "/v2/status", None, 404, "GET /v2/status: Not Found"),
        ("PUT", "/v1/status", None, 405, "PUT /v1/status: Method Not Allowed"),
    ],
)
def test_refusals(tmp_path, method, path, body, status, line):
    async def scenario(l4lb):
        plans = len(l4lb.datapath.plans)
        assert await l4lb.refused(method, path, body) == (status, [line])
        assert l4lb.config.read_text() == CONFIG
        assert len(l4lb.datapath.plans) == plans

    with_daemon(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "header", "line"),
    [
        (b"{", b"", "the body is not JSON"),
        (b"\xff", b"", "the body is not JSON"),
        (b"[" * 100_000, b"", "the body is nested too deeply"),
        (
            b'{"service": {"name": "x", "a": %b}}' % (b"[" * 900 + b"]" * 900),
            b"",
            DEEP,
        ),
        (b"not gzip", b"Content-Encoding: gzip\r\n", "the body is not encoded as its headers say"),
        (b"x" * 2_000_000, b"", f"POST /v1/services: {TOO_LARGE}"),
    ],
    ids=["cut short", "bytes", "deep", "deep in a service", "not gzip", "huge"],
)
def test_a_body_that_is_no_request(tmp_path, caplog, body, header, line):
    request = b"POST /v1/services HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b"

    async def scenario(l4lb):
        head, _, answer = (await said_to(l4lb, request % (header, len(body), body))).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 4")
        assert json.loads(answer) == {"errors": [line.format(config=l4lb.config)]}

    with_daemon(tmp_path, scenario)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("said", [b"GET /v1/status HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0\r\n\r\n"])
def test_what_is_not_http_is_refused_and_no_more_than_a_line_of_the_log(tmp_path, caplog, said):
    async def scenario(l4lb):
        assert b" 400 Bad Request" in await said_to(l4lb, said)
        assert (await l4lb.get("/v1/status"))["services"] == 2

    with_daemon(tmp_path, scenario)
    assert "Traceback" not in caplog.text
    assert all(message.count("\n") == 0 for message in caplog.messages)


def test_a_client_that_hangs_up_in_the_middle_of_its_request_is_no_error_of_ours(tmp_path, caplog):
    async def scenario(l4lb):
        reader, writer = await asyncio.open_unix_connection(l4lb.socket)
        writer.write(
            b"POST /v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n{"
        )
        await reader.readuntil(b"100 Continue\r\n\r\n")  # it is read
        writer.transport.abort()
        assert (await l4lb.get("/v1/status"))["services"] == 2

    with_daemon(tmp_path, scenario)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def said_to(l4lb, request):
    """What the daemon answers to bytes, until it has answered whole."""
    reader, writer = await asyncio.open_unix_connection(l4lb.socket)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", head)[1])
        return head + await reader.readexactly(length)
    finally:
        writer.transport.abort()


def test_every_error_of_a_service_is_told(tmp_path):
    async def scenario(l4lb):
        fields = {"name": "shop", "address": "nowhere", "scheduler": "best"}
        status, lines = await l4lb.refused("POST", "/v1/services", {"service": fields})
        assert status == 400
        assert len(lines) == 2
        assert "services[shop].address" in lines[0]
        assert "services[shop].scheduler" in lines[1]

    with_daemon(tmp_path, scenario)


def test_a_datapath_that_fails_is_told_and_the_daemon_goes_on(tmp_path):
    async def scenario(l4lb):
        l4lb.datapath.refusal = "the packet process did not answer"
        for path in ("/v1/status", "/v1/overview", "/v1/services", "/v1/connections"):
            assert await l4lb.refused("GET", path) == (500, ["the packet process did not answer"])
        l4lb.datapath.refusal = None
        assert (await l4lb.get("/v1/status"))["services"] == 2

    with_daemon(tmp_path, scenario)


def test_a_bug_is_an_error_with_a_line_and_a_traceback_in_the_log(tmp_path, caplog):
    async def scenario(l4lb):
        async def broken():
            raise RuntimeError("a bug")

        l4lb.datapath.counters = broken
        status, lines = await l4lb.refused("GET", "/v1/status")
        assert (status, lines) == (
            500,
            ["internal error: RuntimeError('a bug'); the daemon's log has more"],
        )

    with_daemon(tmp_path, scenario)
    assert "RuntimeError: a bug" in caplog.text
