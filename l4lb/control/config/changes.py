"""What is different between two configs, in lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from l4lb.control.config.config import GatewayConfig
from l4lb.datapath.base import Capabilities
from l4lb.model import AgentCheck, Backend, Endpoint, Protocol, Service

_AT_START: Final = ("datapath", "hold")
"""Keys of [gateway] that stay as they are until the next start, whatever the datapath."""

_RESETS: Final = dict.fromkeys(("address", "protocol", "nat"), "resets its connections")
"""Keys of a service whose connections of before cannot go on with another value."""


def describe_changes(old: Sequence[Service], new: Sequence[Service]) -> list[str]:
    """One line for each change, such as ``service web: backend 10.2.0.13:80 added (weight 2)``."""
    before = {service.name: service for service in old}
    after = {service.name: service for service in new}
    lines = [f"service {name}: removed" for name in before if name not in after]
    for name, service in after.items():
        if name in before:
            lines += [f"service {name}: {change}" for change in _service_changes(before[name], service)]
        else:
            count = len(service.backends)
            lines.append(
                f"service {name}: added ({service.address} {service.protocol.label}, "
                f"{count} backend{'' if count == 1 else 's'})"
            )
    return lines


def describe_gateway_changes(
    old: GatewayConfig, new: GatewayConfig, capabilities: Capabilities
) -> list[str]:
    """One line for each key of the [gateway] table that changed, which says when it comes into force if a
    datapath that can do this does not take it at once."""
    later = dict.fromkeys(_AT_START, "at the next start")
    unmet = capabilities.unmet(new.limits)
    later |= {f"limits.{name}": "after 'l4lb stop' and a start" for name in unmet}
    return [f"gateway: {change}" for change in _field_changes(old, new, notes=later)]


def _service_changes(old: Service, new: Service) -> Iterator[str]:
    yield from _field_changes(old, new, leave_out=("backends",), notes=_RESETS)
    before = {backend.address: backend for backend in old.backends}
    after = {backend.address: backend for backend in new.backends}
    yield from (f"backend {address} removed" for address in before if address not in after)
    for address, backend in after.items():
        if address not in before:
            yield f"backend {address} added (weight {backend.weight})"
        elif before[address].weight != backend.weight:
            yield f"backend {address} {_weight_change(before[address], backend)}"


def _weight_change(old: Backend, new: Backend) -> str:
    if new.weight == 0:
        return f"drains (weight was {old.weight})"
    if old.weight == 0:
        return f"takes connections again (weight {new.weight})"
    return f"weight {old.weight} -> {new.weight}"


def _field_changes(
    old: object,
    new: object,
    leave_out: Sequence[str] = (),
    prefix: str = "",
    notes: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """The fields of two dataclass objects of one type that differ, nested ones as ``health.interval``;
    ``notes`` says of some what else there is to know."""
    if not is_dataclass(new):
        raise TypeError(f"{new!r} is not a dataclass")
    for item in fields(new):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if item.name in leave_out or before == after:
            continue
        if is_dataclass(before) and is_dataclass(after) and not isinstance(after, Endpoint):
            yield from _field_changes(before, after, prefix=f"{prefix}{item.name}.", notes=notes)
        else:
            name = prefix + item.name
            note = f" ({notes[name]})" if name in notes else ""
            yield f"{name} {_shown(before)} -> {_shown(after)}{note}"


def _shown(value: object) -> str:
    if value is None:
        return "default"
    if isinstance(value, Protocol):
        return value.label
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, AgentCheck):
        return f"{value.protocol} port {value.port}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(part) for part in value) + "]"
    return str(value)
