"""The control API: HTTP and JSON on the daemon's unix socket.

Every answer is JSON. An error is ``{"errors": ["line", ...]}`` with status 400 (the request, or the
config it leads to, is wrong), 404 (it is about something that does not exist), 409 (it contradicts
what is there) or 500 (the daemon cannot). Where all but the datapath has taken a change, what has changed
is in the lines after the first. Addresses in a path are percent-encoded text:
``10.2.0.13:80``, ``[2001:db8::1]:80``.

    GET    /v1/status
    GET    /v1/overview                               status and services, from one look at the counters
    GET    /v1/services                               GET /v1/services/{name}
    POST   /v1/services                               {"service": {...as in the file}, "runtime": bool}
    DELETE /v1/services/{name}?runtime=1
    GET    /v1/backends?service=
    POST   /v1/services/{name}/backends               {"address", "weight", "runtime"}
    PATCH  /v1/services/{name}/backends/{address}     {"weight" | "action": "drain" | "enable", "runtime"}
    DELETE /v1/services/{name}/backends/{address}?runtime=1
    GET    /v1/connections?service&backend&client&limit
    DELETE /v1/connections?service&backend&client     or ?all=1
    GET    /v1/explain?service&client                 client: ADDRESS:PORT; which backend it would get
    GET    /v1/decisions?service&client&limit         and what clients got: some of the last choices
    POST   /v1/reload
    POST   /v1/stop

``runtime`` leaves the config file as it is; the change lasts until the next reload. ``enable`` tells in
``restored`` whether the weight from before the drain is known; it gives 1 where it is not.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from l4lb.client_errors import log_sparingly
from l4lb.control.api.encoding import long_answer
from l4lb.control.api.report import Json
from l4lb.control.config.config import ConfigError
from l4lb.control.config.edits import (
    AddBackend,
    AddService,
    Conflict,
    NotFound,
    RemoveBackend,
    RemoveService,
    SetWeight,
)
from l4lb.control.control_plane import ControlPlane, NotTaken
from l4lb.datapath.base import ConnectionFilter, DatapathError
from l4lb.model import Endpoint

log = logging.getLogger(__name__)

_DEFAULT_LIMIT: Final = 1000
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadRequest(Exception):
    """The request makes no sense. The message is one line for people."""


class Api:
    """The handlers; each turns a request into calls of the control plane and back."""

    def __init__(self, plane: ControlPlane, socket_path: Path, stop: Callable[[], Awaitable[None]]) -> None:
        """``stop`` returns once everything is removed from the host."""
        self._plane = plane
        self._answers = plane.answers
        self._socket_path = socket_path
        self._stop = stop

    def application(self) -> web.Application:
        """The routes, for an aiohttp runner."""
        log_sparingly()
        app = web.Application(middlewares=[_errors_as_json])
        # An empty name matches as well: it is a service that does not exist.
        service = "/v1/services/{name:[^/]*}"
        backend = service + "/backends/{address}"
        app.add_routes(
            [
                web.get("/v1/status", self._status),
                web.get("/v1/overview", self._overview),
                web.get("/v1/services", self._services),
                web.post("/v1/services", self._add_service),
                web.get(service, self._service),
                web.delete(service, self._remove_service),
                web.get("/v1/backends", self._backends),
                web.post(f"{service}/backends", self._add_backend),
                web.patch(backend, self._change_backend),
                web.delete(backend, self._remove_backend),
                web.get("/v1/connections", self._connections),
                web.delete("/v1/connections", self._flush),
                web.get("/v1/explain", self._explain),
                web.get("/v1/decisions", self._decisions),
                web.post("/v1/reload", self._reload),
                web.post("/v1/stop", self._stop_daemon),
            ]
        )
        return app

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(await self._answers.status(self._socket_path))

    async def _overview(self, request: web.Request) -> web.StreamResponse:
        return await long_answer(request, await self._answers.overview(self._socket_path))

    async def _services(self, request: web.Request) -> web.StreamResponse:
        return await long_answer(request, {"services": await self._answers.services()})

    async def _service(self, request: web.Request) -> web.StreamResponse:
        return await long_answer(request, (await self._answers.services(request.match_info["name"]))[0])

    async def _add_service(self, request: web.Request) -> web.Response:
        body = await _body(request, "service", "runtime")
        fields = body.get("service")
        if not isinstance(fields, dict):
            raise BadRequest("'service' must be an object with the keys of [[services]] in the config file")
        await self._plane.edit(AddService(fields), runtime=_flag(body))
        return web.json_response((await self._answers.services(fields["name"]))[0])

    async def _remove_service(self, request: web.Request) -> web.Response:
        edit = RemoveService(request.match_info["name"])
        await self._plane.edit(edit, runtime=_query_flag(request, "runtime"))
        return web.json_response({})

    async def _backends(self, request: web.Request) -> web.StreamResponse:
        services = await self._answers.services(request.query.get("service"))
        backends = [backend for service in services for backend in service["backends"]]
        return await long_answer(request, {"backends": backends})

    async def _add_backend(self, request: web.Request) -> web.Response:
        body = await _body(request, "address", "weight", "runtime")
        name, address = request.match_info["name"], _endpoint(body.get("address"))
        await self._plane.edit(
            AddBackend(name, address, _weight(body.get("weight", 1))), runtime=_flag(body)
        )
        return web.json_response(await self._answers.backend(name, address))

    async def _change_backend(self, request: web.Request) -> web.Response:
        body = await _body(request, "weight", "action", "runtime")
        name, address = request.match_info["name"], _endpoint(request.match_info["address"])
        runtime = _flag(body)
        match body:
            case {"weight": _, "action": _}:
                raise BadRequest("give 'weight' or 'action', not both")
            case {"weight": weight}:
                await self._plane.edit(SetWeight(name, address, _weight(weight)), runtime=runtime)
            case {"action": "drain"}:
                await self._plane.edit(SetWeight(name, address, 0), runtime=runtime)
            case {"action": "enable"}:
                restored = await self._plane.enable(name, address, runtime=runtime)
                return web.json_response(
                    {**await self._answers.backend(name, address), "restored": restored}
                )
            case _:
                raise BadRequest("give 'weight', or 'action' as drain or enable")
        return web.json_response(await self._answers.backend(name, address))

    async def _remove_backend(self, request: web.Request) -> web.Response:
        edit = RemoveBackend(request.match_info["name"], _endpoint(request.match_info["address"]))
        await self._plane.edit(edit, runtime=_query_flag(request, "runtime"))
        return web.json_response({})

    async def _connections(self, request: web.Request) -> web.StreamResponse:
        limit = _whole_number(request.query.get("limit", str(_DEFAULT_LIMIT)))
        found, total = await self._answers.connections(_filter(request), limit)
        return await long_answer(request, {"connections": found, "total": total})

    async def _flush(self, request: web.Request) -> web.Response:
        which = _filter(request)
        if which == ConnectionFilter() and not _query_flag(request, "all"):
            raise BadRequest("name a service, a backend or a client, or say all=1")
        return web.json_response({"flushed": await self._plane.flush(which)})

    async def _explain(self, request: web.Request) -> web.Response:
        service, client = request.query.get("service", ""), _endpoint(request.query.get("client"))
        try:
            return web.json_response(await self._answers.explain(service, client))
        except ValueError as error:
            raise BadRequest(str(error)) from None

    async def _decisions(self, request: web.Request) -> web.StreamResponse:
        limit = _whole_number(request.query.get("limit", str(_DEFAULT_LIMIT)))
        which = _filter(request)
        return await long_answer(request, {"decisions": await self._answers.decisions(which, limit)})

    async def _reload(self, request: web.Request) -> web.Response:
        return web.json_response({"changes": await self._plane.reload()})

    async def _stop_daemon(self, request: web.Request) -> web.Response:
        await _read(request)  # or a client that is slow to send the rest finds nobody
        await self._stop()
        return web.json_response({})


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConfigError as error:
        return _refused(400, *error.errors)
    except BadRequest as error:
        return _refused(400, str(error))
    except NotFound as error:
        return _refused(404, str(error))
    except Conflict as error:
        return _refused(409, str(error))
    except NotTaken as error:
        return _refused(500, str(error), *error.changes)
    except DatapathError as error:
        return _refused(500, str(error))
    except web.HTTPException as error:
        return _refused(error.status, f"{request.method} {request.path}: {error.reason}")
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return _refused(500, f"internal error: {error!r}; the daemon's log has more")


def _refused(status: int, *lines: str) -> web.Response:
    return web.json_response({"errors": list(lines)}, status=status)


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except ConnectionError:
        raise BadRequest("the client is gone") from None


async def _body(request: web.Request, *known: str) -> Json:
    try:
        body = json.loads(await _read(request) or b"{}")
    except web.RequestPayloadError:
        raise BadRequest("the body is not encoded as its headers say") from None
    except ValueError:
        raise BadRequest("the body is not JSON") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    if unknown := body.keys() - known:
        raise BadRequest(f"unknown: {', '.join(sorted(unknown))} (known: {', '.join(known)})")
    return body


def _flag(body: Json) -> bool:
    runtime = body.get("runtime", False)
    if not isinstance(runtime, bool):
        raise BadRequest("'runtime' must be true or false")
    return runtime


def _query_flag(request: web.Request, name: str) -> bool:
    value = request.query.get(name, "0")
    if value not in ("0", "1"):
        raise BadRequest(f"{name} must be 0 or 1")
    return value == "1"


def _weight(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadRequest("'weight' must be a whole number, 0 or more")
    return value


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) == 0:
        raise BadRequest("limit must be a whole number, 1 or more")
    return int(text)


def _endpoint(value: object) -> Endpoint:
    if not isinstance(value, str):
        raise BadRequest("'address' must be text, ADDRESS:PORT")
    try:
        return Endpoint.parse(value)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _filter(request: web.Request) -> ConnectionFilter:
    backend, client = request.query.get("backend"), request.query.get("client")
    try:
        packed = None if client is None else ipaddress.ip_address(client).packed
    except ValueError:
        raise BadRequest(f"'{client}' is not an IP address") from None
    return ConnectionFilter(
        service=request.query.get("service"),
        backend=None if backend is None else _endpoint(backend),
        client=packed,
    )
