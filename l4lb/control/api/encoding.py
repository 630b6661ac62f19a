"""Answers as JSON, in pieces, so that neither making nor sending a long one keeps others waiting. Edge: the
HTTP response."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from l4lb.control.api.report import Json
from l4lb.turns import in_turns

_CHUNK: Final = 1 << 16
"""Characters that are sent together."""


async def long_answer(request: web.Request, answer: Json) -> web.StreamResponse:
    """The response to a request, whose answer may be of any length."""
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    try:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        chunk: list[str] = []
        size = 0
        async for piece in in_turns(pieces(answer)):
            chunk.append(piece)
            size += len(piece)
            if size >= _CHUNK:
                await response.write("".join(chunk).encode())
                chunk, size = [], 0
        await response.write("".join(chunk).encode())
    except ConnectionError:  # the client is gone
        pass
    return response


def pieces(value: object) -> Iterator[str]:
    """The text of a value, as ``json.dumps`` writes it. Of its lists each element comes by itself."""
    if isinstance(value, list) and value:
        before = "["
        for each in value:
            yield before
            yield from pieces(each)
            before = ", "
        yield "]"
    elif isinstance(value, dict) and any(isinstance(each, list) for each in value.values()):
        before = "{"
        for name, each in value.items():
            yield f"{before}{json.dumps(name)}: "
            yield from pieces(each)
            before = ", "
        yield "}"
    else:
        yield json.dumps(value)
