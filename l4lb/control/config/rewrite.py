"""Edits of the config file that keep its comments and layout: text in, text out. Pure.

Nothing here judges: that an edit makes sense is checked before (``edits``), and what the text says then
by ``config.parse`` before it is written.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from l4lb.control.config.config import ConfigError
from l4lb.control.config.layout import KeyPath
from l4lb.control.config.text import TomlText
from l4lb.model import Endpoint


def add_backend(text: str, service: str, address: Endpoint, weight: int = 1) -> str:
    """Add a backend below the others of its service.

    Raises:
        KeyError: there is no such service.
    """
    document = _read(text)
    path, table = _service(document, service)
    backends = [backend for _, backend in _tables(table, "backends")]
    fields: dict[str, object] = {"address": str(address)}
    if weight != 1 or (backends and "weight" in backends[-1]):
        fields["weight"] = weight
    return document.append((*path, "backends"), fields)


def remove_backend(text: str, service: str, address: Endpoint) -> str:
    """Remove a backend and the comment directly above it.

    Raises:
        KeyError: there is no such service or backend.
    """
    document = _read(text)
    return document.remove(_backend(document, service, address))


def set_weight(text: str, service: str, address: Endpoint, weight: int) -> str:
    """Change the weight of a backend.

    Raises:
        KeyError: there is no such service or backend.
    """
    document = _read(text)
    return document.set(_backend(document, service, address), "weight", weight)


def add_service(text: str, fields: Mapping[str, object]) -> str:
    """Add a service below the others; ``fields`` has the keys and values of the file.

    Raises:
        ConfigError: a value has no form in TOML.
    """
    document = _read(text)
    try:
        return document.append(("services",), fields)
    except ValueError as error:
        raise ConfigError([f"cannot add the service: {error}"]) from None
    except RecursionError:
        raise ConfigError(["cannot add the service: nested too deeply"]) from None


def remove_service(text: str, service: str) -> str:
    """Remove a service, its backends and the comment directly above it.

    Raises:
        KeyError: there is no such service.
    """
    document = _read(text)
    path, _ = _service(document, service)
    return document.remove(path)


def _read(text: str) -> TomlText:
    try:
        return TomlText(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"the config is not valid TOML: {error}"]) from None


def _service(document: TomlText, name: str) -> tuple[KeyPath, dict[str, Any]]:
    for index, table in _tables(document.data, "services"):
        if table.get("name") == name:
            return ("services", index), table
    raise KeyError(name)


def _backend(document: TomlText, service: str, address: Endpoint) -> KeyPath:
    path, table = _service(document, service)
    for index, backend in _tables(table, "backends"):
        if _address(backend) == address:
            return (*path, "backends", index)
    raise KeyError(str(address))


def _tables(parent: Mapping[str, Any], key: str) -> enumerate[dict[str, Any]]:
    tables = parent.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError([f"the config is not valid: '{key}' is not a list of tables"])
    return enumerate(tables)


def _address(backend: Mapping[str, object]) -> Endpoint | None:
    """Compared as an address: ``[2001:db8:0::1]:80`` is ``[2001:db8::1]:80``."""
    try:
        return Endpoint.parse(str(backend.get("address")))
    except ValueError:
        return None
