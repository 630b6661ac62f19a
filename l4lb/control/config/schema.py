"""The shape of the config file - keys, types, bounds - checked by pydantic.

Only ``l4lb.control.config.config`` imports this, and only when there is a file to read: pydantic takes
longer to import than most commands take to run. A key that is left out stays unset here and gets
its default from ``l4lb.model`` or ``GatewayConfig``, so that defaults are written once. Rules
between several keys are in ``config_rules``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails

from l4lb import model
from l4lb.control.config import values
from l4lb.control.config.config import GatewayConfig
from l4lb.control.config.layout import KeyPath
from l4lb.control.config.rules import Problem
from l4lb.health.probes.result import MOST_EXPENSIVE

_DAY = 86_400

Address = Annotated[model.Endpoint, PlainValidator(values.endpoint)]
OwnAddress = Annotated[model.Endpoint, PlainValidator(values.own_endpoint)]
Interface = Annotated[str, AfterValidator(values.interface)]
ReceivingInterface = Annotated[str, AfterValidator(values.receiving_interface)]
Port = Annotated[int, Field(ge=1, le=65535)]
Share = Annotated[float, Field(ge=0.01, le=1)]
PacketRate = Annotated[float, Field(ge=0, le=100_000)]  # packets a second
Streak = Annotated[int, Field(ge=1, le=1000)]  # checks in a row that turn a backend up or down


class _Table(BaseModel):
    """A table whose unknown keys are errors and whose values are not converted."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """The keys that were written, with their values."""
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}


def _mirror(words: type, kind: object) -> type[_Table]:
    """A table with the keys of a dataclass, all optional and of one kind."""
    keys: dict[str, Any] = {f.name: (kind, None) for f in dataclasses.fields(words)}
    return create_model(words.__name__, __base__=_Table, **keys)


LimitsTable = _mirror(model.Limits, Annotated[int, Field(ge=1, le=1 << 24)])
TimeoutsTable = _mirror(model.Timeouts, Annotated[float, Field(ge=1, le=30 * _DAY)])


class ProbesTable(_Table):
    """``[gateway.probes]``."""

    enabled: bool | None = None
    share: Annotated[float, Field(ge=0, le=0.1)] | None = None
    floor: PacketRate | None = None
    ceiling: PacketRate | None = None
    burst: Annotated[float, Field(ge=MOST_EXPENSIVE, le=10_000)] | None = None


class MetricsTable(_Table):
    """``[gateway.metrics]``."""

    enabled: bool | None = None
    address: OwnAddress | None = None


class HealthTable(_Table):
    """``[services.health]``."""

    check: Literal["tcp", "http", "agent", "none"] | None = None
    interval: Annotated[float, Field(ge=0.1, le=_DAY)] | None = None
    timeout: Annotated[float, Field(ge=0.01, le=3600)] | None = None
    rise: Streak | None = None
    fall: Streak | None = None
    port: Port | None = None
    path: Annotated[str, AfterValidator(values.http_path)] | None = None
    host: Annotated[str, AfterValidator(values.http_host)] | None = None
    status: Annotated[tuple[tuple[int, int], ...], PlainValidator(values.http_status)] | None = None


class AgentTable(_Table):
    """``[services.agent]``."""

    port: Port
    protocol: Literal["udp", "tcp"] | None = None
    key: Annotated[str, AfterValidator(values.absolute_path)] | None = None
    interval: Annotated[float, Field(ge=0.1, le=_DAY)] | None = None
    timeout: Annotated[float, Field(ge=0.01, le=3600)] | None = None
    cpu_limit: Share | None = None
    memory_limit: Share | None = None


class BackendTable(_Table):
    """``[[services.backends]]``."""

    address: Address
    weight: Annotated[int, Field(ge=0, le=model.MAX_WEIGHT)] | None = None


class ServiceTable(_Table):
    """``[[services]]``."""

    name: Annotated[str, AfterValidator(values.service_name)]
    address: Address
    protocol: Literal["tcp", "udp"] = "tcp"
    scheduler: Annotated[str, AfterValidator(values.scheduler)] | None = None
    nat: Literal["destination", "full"] | None = None
    affinity: Literal["none", "client"] | None = None
    affinity_timeout: Annotated[float, Field(ge=1, le=30 * _DAY)] | None = None
    when_all_down: Literal["refuse", "use_all"] | None = None
    when_backend_down: Literal["reset", "keep"] | None = None
    health: HealthTable = HealthTable()
    agent: AgentTable | None = None
    backends: list[BackendTable] = []


class GatewayTable(_Table):
    """``[gateway]``."""

    interfaces: Annotated[list[ReceivingInterface], Field(min_length=1)] | None = None
    datapath: Annotated[str, AfterValidator(values.datapath)] | None = None
    manage_vips: bool | None = None
    vip_interface: Interface | None = None
    snat_ports: Annotated[list[int], AfterValidator(values.port_range)] | None = None
    hold: Annotated[float, Field(ge=0, le=3600)] | None = None
    limits: LimitsTable | None = None  # type: ignore[valid-type]
    timeouts: TimeoutsTable | None = None  # type: ignore[valid-type]
    probes: ProbesTable | None = None
    metrics: MetricsTable | None = None


class FileTable(_Table):
    """The whole file."""

    gateway: GatewayTable = GatewayTable()
    services: list[ServiceTable] = []


def check(document: Mapping[str, object]) -> FileTable | list[Problem]:
    """The document as tables, or everything that is wrong with its shape."""
    try:
        return FileTable.model_validate(document)
    except ValidationError as error:
        return [Problem(item["loc"], _message(item)) for item in error.errors(include_url=False)]


def gateway(table: GatewayTable) -> GatewayConfig:
    """The gateway's part with its defaults filled in."""
    given = table.given()
    for key in ("interfaces", "snat_ports"):
        if key in given:
            given[key] = tuple(given[key])
    for key, words in (
        ("limits", model.Limits),
        ("timeouts", model.Timeouts),
        ("probes", model.Probes),
        ("metrics", model.Metrics),
    ):
        if key in given:
            given[key] = words(**given[key].given())
    return GatewayConfig(**given)


def service(table: ServiceTable) -> model.Service:
    """A service with its defaults filled in."""
    given = table.given()
    given["protocol"] = model.Protocol[table.protocol.upper()]
    for key, words in (
        ("nat", model.Nat),
        ("when_all_down", model.WhenAllDown),
        ("when_backend_down", model.WhenBackendDown),
    ):
        if key in given:
            given[key] = words(given[key])
    given["health"] = _health(table)
    if table.agent is not None:
        given["agent"] = model.AgentCheck(**table.agent.given())
    given["backends"] = tuple(model.Backend(**backend.given()) for backend in table.backends)
    return model.Service(**given)


def _health(table: ServiceTable) -> model.HealthCheck:
    """A UDP port cannot be connected to, so UDP services are checked only on a port that is named."""
    given = table.health.given()
    if table.protocol == "udp" and table.health.port is None:
        given.setdefault("check", "none")
    return model.HealthCheck(**given)


_TABLES: Mapping[KeyPath, type[_Table]] = {
    (): FileTable,
    ("gateway",): GatewayTable,
    ("gateway", "limits"): LimitsTable,
    ("gateway", "timeouts"): TimeoutsTable,
    ("gateway", "probes"): ProbesTable,
    ("gateway", "metrics"): MetricsTable,
    ("services",): ServiceTable,
    ("services", "health"): HealthTable,
    ("services", "agent"): AgentTable,
    ("services", "backends"): BackendTable,
}

_KINDS = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "model_type": "a table",
}


def _message(error: ErrorDetails) -> str:
    """One of pydantic's errors in the words of the config file."""
    kind, value, context = error["type"], values.shown(error["input"]), error.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return "there is no such key" + _suggestion(error["loc"])
        case "missing":
            return "missing"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            names = context["expected"].replace("'", "").replace(" or ", ", ")
            return f"{value} is not one of {names}"
        case "greater_than_equal":
            return f"{value} is too small: at least {context['ge']:g}"
        case "less_than_equal":
            return f"{value} is too large: at most {context['le']:,.12g}".replace(",", "")
        case "too_short":
            return "empty: write at least one, or leave the key out"
        case _ if kind in _KINDS:
            return f"{value} is not {_KINDS[kind]}"
        case _:
            return error["msg"]


def _suggestion(path: KeyPath) -> str:
    table = _TABLES[tuple(part for part in path[:-1] if isinstance(part, str))]
    near = difflib.get_close_matches(str(path[-1]), table.model_fields, n=1)
    return f"; did you mean '{near[0]}'?" if near else f" (known: {', '.join(table.model_fields)})"
