"""The config file, ``l4lb.toml``: read, checked whole, and turned into plain frozen values.

A file with errors is refused whole. All its errors are reported at once, each in one line with its
place: ``l4lb.toml:14:1: services[web].backends[1].address: '10.2.0.300' is not an IP address``.
Indices count from 0.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from l4lb import model
from l4lb.control.config import rules as config_rules
from l4lb.control.config.layout import KeyPath, Layout, layout, line_and_column
from l4lb.privileges import refusal

_LARGEST: Final = 16 << 20
"""Bytes: room for 100,000 backends. What is larger is a device or another file."""

_USUAL: Final = "/etc/l4lb/l4lb.toml"


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """What holds for the gateway as a whole."""

    interfaces: tuple[str, ...] = ()  # empty: those with a route to a VIP or a backend
    datapath: str = "auto"  # auto | xdp | tc | raw
    manage_vips: bool = True  # add, announce and remove the VIPs
    vip_interface: str | None = None  # None: the one with a route to the VIP
    snat_ports: tuple[int, int] = model.SNAT_PORTS  # full NAT: source ports, inclusive
    hold: float = 30.0  # seconds the host's stack is kept silent after a stop; 0: not at all
    limits: model.Limits = field(default_factory=model.Limits)
    timeouts: model.Timeouts = field(default_factory=model.Timeouts)
    probes: model.Probes = field(default_factory=model.Probes)
    metrics: model.Metrics = field(default_factory=model.Metrics)


@dataclass(frozen=True, slots=True)
class Config:
    """A config file without errors."""

    gateway: GatewayConfig
    services: tuple[model.Service, ...]
    path: Path


class ConfigError(Exception):
    """A config or a change to it is refused; ``errors`` has one line for each reason."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(self.errors))


def load(path: Path) -> Config:
    """Read and check a config file.

    Raises:
        ConfigError: it cannot be read or has errors.
    """
    return parse(read(path), path)


def read(path: Path) -> str:
    """The text of a config file.

    Raises:
        ConfigError: it cannot be read, is too large or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigError([f"{path}: larger than {_LARGEST >> 20} MiB: this is not a config file"])
        if data.startswith(codecs.BOM_UTF8):
            raise ConfigError([f"{path}:1:1: begins with a byte order mark: save it as UTF-8 without one"])
        return data.decode()
    except FileNotFoundError:
        raise ConfigError(
            [f"{path}: no such file: 'l4lb install-service' writes {_USUAL}, or name one with -c"]
        ) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot read the config: {refusal(error)}"]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8 text"]) from None


def parse(text: str, path: Path, *, in_file: bool = True) -> Config:
    """Check the text of a config file; ``path`` is where it came from or will go.

    Unless it is ``in_file``, its errors are told without a line: there would be another one in the file.

    Raises:
        ConfigError: it has errors.
    """
    # Imported here because of pydantic: see config_schema.
    from l4lb.control.config import schema as config_schema

    document = _toml(text, path)
    tables = config_schema.check(document)
    problems = config_rules.check(document)
    if isinstance(tables, list):
        problems = [*tables, *problems]
    if problems or isinstance(tables, list):
        raise ConfigError(_lines(problems, document, text, path if in_file else None))
    return Config(
        gateway=config_schema.gateway(tables.gateway),
        services=tuple(map(config_schema.service, tables.services)),
        path=path,
    )


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError([f"{path}: nested too deeply"]) from None
    except tomllib.TOMLDecodeError as error:
        message, place = str(error), ""
        if match := re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message):
            message = message[: match.start()]
            line, column = match.groups() if match[1] else (text.count("\n") + 1, None)
            place = f":{line}:{column}" if column else f":{line}"
        raise ConfigError([f"{path}{place}: not valid TOML: {message}"]) from None
    except ValueError:  # int() refuses thousands of digits
        raise ConfigError([f"{path}: a number has too many digits"]) from None


def _lines(
    problems: Iterable[config_rules.Problem], document: dict[str, Any], text: str, path: Path | None
) -> list[str]:
    """The problems as lines for people, in the order of the file."""
    places = layout(text)
    lines = []
    for problem in sorted(problems, key=lambda problem: _offset(problem.path, places)):
        line, column = line_and_column(text, _offset(problem.path, places))
        place = f"{path}:{line}:{column}: " if path else ""
        lines.append(f"{place}{_shown(problem.path, document)}: {problem.message}")
    return lines


def _offset(keys: KeyPath, places: Layout) -> int:
    """Where a key stands, or else the table that lacks it."""
    for length in range(len(keys), 0, -1):
        if span := places.spans.get(keys[:length]):
            return span.start
    return 0


def _shown(keys: KeyPath, document: dict[str, Any]) -> str:
    """``services[web].backends[1].address``: services by name where they have one."""
    text = ""
    value: Any = document
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            value = None
        if isinstance(key, str):
            part = key if key.isprintable() else repr(key)
            text += f".{part}" if text else part
        else:
            name = value.get("name") if text == "services" and isinstance(value, dict) else None
            text += f"[{name}]" if isinstance(name, str) and name.isprintable() else f"[{key}]"
    return text
