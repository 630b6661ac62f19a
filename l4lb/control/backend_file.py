"""Keeps something of some backends in a file, for the daemon that comes after."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from l4lb.files import keep
from l4lb.model import BackendKey, Endpoint

log = logging.getLogger(__name__)

Value = TypeVar("Value")

_LARGEST: Final = 16 << 20
"""Bytes, as of a config file."""


class BackendFile(Generic[Value]):
    """One file, ``{"service": {"address": value}}``; there is none where there is nothing to keep."""

    def __init__(
        self,
        path: Path,
        *,
        from_json: Callable[[Any], Value],
        to_json: Callable[[Value], Any],
        if_lost: str,
        what: str,
    ) -> None:
        """Read the file. One that is missing or damaged counts as empty.

        Args:
            path: the file.
            from_json: makes a value of what stands in the file; raises ValueError if it is none.
            to_json: the reverse.
            if_lost: what follows when the file cannot be read, for the log.
            what: is in the file, for the log.
        """
        self._path = path
        self._to_json = to_json
        self._what = what
        self._kept: dict[BackendKey, Value] | None = {}  # that the file has; None: it is damaged
        self._failed: Mapping[BackendKey, Value] | None = None  # that could not be written
        try:
            with path.open("rb") as file:
                self._kept = _values(file.read(_LARGEST + 1), from_json)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            self._kept = None
            log.warning(
                "%s cannot be read (%s): %s",
                path,
                error.strerror if isinstance(error, OSError) else "it is damaged",
                if_lost,
            )

    @property
    def kept(self) -> Mapping[BackendKey, Value]:
        """As the file has them."""
        return MappingProxyType(self._kept or {})

    def keep(self, values: Mapping[BackendKey, Value]) -> None:
        """Have these in the file and no others. Where it cannot be written, the log says so, once for each
        change of what it should have."""
        if values in (self._kept, self._failed):
            return
        try:
            self._write(values)
        except OSError as error:
            self._failed = dict(values)
            log.warning("%s not saved: %s: %s", self._what, self._path, error.strerror)
        else:
            self._kept, self._failed = dict(values), None

    def _write(self, values: Mapping[BackendKey, Value]) -> None:
        services: dict[str, dict[str, Any]] = {}
        for (service, address), value in values.items():
            services.setdefault(service, {})[str(address)] = self._to_json(value)
        keep(self._path, json.dumps(services) + "\n" if services else "")


def _values(content: bytes, from_json: Callable[[Any], Value]) -> dict[BackendKey, Value]:
    """What a file says.

    Raises:
        ValueError, RecursionError: it is damaged.
    """
    if len(content) > _LARGEST:
        raise ValueError("too large")
    return {
        (service, Endpoint.parse(address)): from_json(value)
        for service, backends in table(json.loads(content)).items()
        for address, value in table(backends).items()
    }


def table(value: object) -> dict[str, Any]:
    """What stands in a file, if it is a table.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, dict):
        raise ValueError("not a table")
    return value
