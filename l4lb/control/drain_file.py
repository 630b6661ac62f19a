"""Keeps in a file the weights that drained backends had, for the daemon that comes after."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from l4lb.files import keep
from l4lb.model import MAX_WEIGHT, BackendKey, Endpoint

log = logging.getLogger(__name__)

_LARGEST: Final = 16 << 20
"""Bytes, as of a config file."""


class DrainFile:
    """One file, ``{"service": {"address": weight}}``; there is none where nothing is drained."""

    def __init__(self, path: Path) -> None:
        """Read the file. One that is missing or damaged counts as empty."""
        self._path = path
        self._weights: Mapping[BackendKey, int] | None = {}  # that the file has; None: it is damaged
        try:
            with path.open("rb") as file:
                self._weights = _weights(file.read(_LARGEST + 1))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            self._weights = None
            log.warning(
                "%s cannot be read (%s): backends that are drained go back to weight 1",
                path,
                error.strerror if isinstance(error, OSError) else "it is damaged",
            )

    @property
    def weights(self) -> Mapping[BackendKey, int]:
        """Of the backends that were drained, as the file has them."""
        return MappingProxyType(self._weights or {})

    def keep(self, weights: Mapping[BackendKey, int]) -> None:
        """Have these in the file and no others. Where it cannot be written, the log says so."""
        if weights == self._weights:
            return
        try:
            self._write(weights)
        except OSError as error:
            log.warning("the weights of drained backends are not saved: %s: %s", self._path, error.strerror)
        else:
            self._weights = dict(weights)

    def _write(self, weights: Mapping[BackendKey, int]) -> None:
        services: dict[str, dict[str, int]] = {}
        for (service, address), weight in weights.items():
            services.setdefault(service, {})[str(address)] = weight
        keep(self._path, json.dumps(services) + "\n" if services else "")


def _weights(content: bytes) -> dict[BackendKey, int]:
    """What a file says.

    Raises:
        ValueError, RecursionError: it is damaged.
    """
    if len(content) > _LARGEST:
        raise ValueError("too large")
    return {
        (service, Endpoint.parse(address)): _weight(weight)
        for service, backends in _table(json.loads(content)).items()
        for address, weight in _table(backends).items()
    }


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a table")
    return value


def _weight(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_WEIGHT:
        raise ValueError("not a weight")
    return value
