"""Asks the daemon: HTTP and JSON over its unix socket, with nothing but the standard library.

``aiohttp`` would do it too, and take longer to import than most commands take to run.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

TIMEOUT = 30.0
"""Seconds to wait for an answer."""

_OTHER_VERSION = "the daemon and this l4lb are of different versions: restart the daemon"


class DaemonError(Exception):
    """The daemon could not be asked, or refused. ``lines`` say why and what to do."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class NoDaemon(DaemonError):
    """Nothing listens on the socket."""


class Answer(dict[str, Any]):
    """An object of an answer. One that lacks what is looked for is a daemon's of another version."""

    def __missing__(self, key: str) -> Any:
        raise DaemonError(_OTHER_VERSION)


class Client:
    """The daemon behind one socket. Every request has a connection of its own."""

    def __init__(self, socket_path: Path, timeout: float = TIMEOUT) -> None:
        self._path = socket_path
        self._timeout = timeout

    def get(self, *path: str, **query: object) -> Any:
        """The answer to a GET; ``path`` in parts, without ``/v1`` and not encoded.

        Raises:
            DaemonError: see the class. The other methods too.
        """
        return self.call("GET", path, query)

    def post(self, *path: str, body: Mapping[str, object] | None = None) -> Any:
        """The answer to a POST."""
        return self.call("POST", path, {}, body or {})

    def patch(self, *path: str, body: Mapping[str, object]) -> Any:
        """The answer to a PATCH."""
        return self.call("PATCH", path, {}, body)

    def delete(self, *path: str, **query: object) -> Any:
        """The answer to a DELETE."""
        return self.call("DELETE", path, query)

    def call(
        self,
        method: str,
        path: Sequence[str],
        query: Mapping[str, object],
        body: Mapping[str, object] | None = None,
    ) -> Any:
        """One request. Queries that are None are left out."""
        target = "/v1/" + "/".join(quote(part, safe="") for part in path)
        if given := {key: value for key, value in query.items() if value is not None}:
            target += f"?{urlencode(given)}"
        status, answer = self._exchange(method, target, None if body is None else json.dumps(body))
        if status >= 400:
            errors = answer.get("errors") if isinstance(answer, dict) else None
            raise DaemonError(*map(str, errors or [f"the daemon refused with HTTP status {status}"]))
        if not isinstance(answer, dict):
            raise DaemonError(_OTHER_VERSION)
        return answer

    def _exchange(self, method: str, target: str, body: str | None) -> tuple[int, Any]:
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request(
                method, target, body, {} if body is None else {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read(), object_pairs_hook=Answer)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoDaemon(
                f"no daemon answers at {self._path}: start one with 'l4lb run', "
                "or name its socket with --socket"
            ) from None
        except PermissionError:
            raise DaemonError(f"no permission to use {self._path}: run this as root") from None
        except TimeoutError:
            raise DaemonError(
                f"the daemon at {self._path} did not answer within {self._timeout:g} seconds: see its log"
            ) from None
        except ConnectionError:
            raise DaemonError(
                f"the daemon at {self._path} hung up without an answer: see its log"
            ) from None
        except (http.client.HTTPException, ValueError):
            raise DaemonError(f"what answers at {self._path} is not l4lb: check --socket") from None
        except OSError as error:
            raise DaemonError(
                f"cannot talk to the daemon at {self._path}: {error.strerror or error}"
            ) from None
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Called by ``request``."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
