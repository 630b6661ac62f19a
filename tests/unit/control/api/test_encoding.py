"""Answers in pieces."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from l4lb.control.api.encoding import _CHUNK, long_answer, pieces

BACKEND = {
    "address": "10.2.0.11:80",
    "check": None,
    "buckets": {"0.1": 2},
    "reason": 'a "line"\n',
    "up": True,
}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"backends": []},
        {"backends": [BACKEND, BACKEND]},
        {"status": {"vips": [{"ours": False}], "warnings": ["é"]}, "services": [{"backends": [BACKEND]}]},
        {"connections": [{}], "total": 3},
        [[], [1, [2]], None, 1.5],
    ],
)
def test_it_is_what_json_writes(answer):
    assert "".join(pieces(answer)) == json.dumps(answer)


def test_no_piece_has_more_than_one_element_of_a_list():
    answer = {"services": [{"name": "web", "backends": [BACKEND] * 5000}] * 2}
    assert max(map(len, pieces(answer))) == len(json.dumps(BACKEND))


async def exchange(answer, method, tmp_path, read):
    """What a client gets of an answer, and what the server did then."""
    ended = asyncio.get_running_loop().create_future()

    async def handler(request):
        try:
            response = await long_answer(request, answer)
        except BaseException as error:
            ended.set_result(error)
            raise
        ended.set_result(None)
        return response

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    path = str(tmp_path / "socket")
    await web.UnixSite(runner, path).start()
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_unix_connection(path, limit=1 << 16)
            writer.write(f"{method} / HTTP/1.1\r\nHost: l4lb\r\nConnection: close\r\n\r\n".encode())
            got = await reader.read(read)
            writer.close()
            return got, await ended
    finally:
        await runner.cleanup()


def test_a_client_that_goes_away_is_no_error(tmp_path, caplog):
    answer = {"connections": [{"client": "x" * 1000}] * (100 * _CHUNK // 1000)}
    got, error = asyncio.run(exchange(answer, "GET", tmp_path, 100))
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert error is None
    assert not caplog.records


def test_who_asks_for_the_head_alone_gets_it(tmp_path):
    got, error = asyncio.run(exchange({"backends": [BACKEND]}, "HEAD", tmp_path, -1))
    head, _, body = got.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body, error) == (b"HTTP/1.1 200 OK", b"", None)
    assert b"Content-Type: application/json" in head
