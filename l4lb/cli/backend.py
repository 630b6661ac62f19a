"""``l4lb backend``: the servers behind the services."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from l4lb.cli.completion import complete_backend, complete_service
from l4lb.cli.options import (
    Group,
    Location,
    endpoint,
    json_option,
    pass_location,
    runtime_option,
    seconds_between,
)
from l4lb.cli.output import (
    Column,
    counted,
    duration,
    quantity,
    seconds,
    write_annotated_table,
    write_json,
)
from l4lb.cli.rates import Backends, Rates, measure
from l4lb.model import Endpoint

_LONGEST_INTERVAL = 60  # seconds

_AGENT_COLUMNS = (Column("CPU", "right"), Column("MEM", "right"), Column("AGENT"))

_service = click.argument("service", shell_complete=complete_service)
_new_address = click.argument("address", type=endpoint, metavar="ADDRESS:PORT")
_address = click.argument("address", type=endpoint, metavar="ADDRESS:PORT", shell_complete=complete_backend)


@click.group(cls=Group)
def backend() -> None:
    """The servers behind the services."""


@backend.command("list")
@click.argument("service", required=False, shell_complete=complete_service)
@click.option(
    "--interval",
    type=seconds_between(0, _LONGEST_INTERVAL),
    default="0.5",
    show_default=True,
    metavar="SECONDS",
    help="How long to measure rates; 0 leaves them out. JSON has counters instead.",
)
@json_option
@pass_location
def list_backends(location: Location, service: str | None, interval: float, as_json: bool) -> None:
    """List backends, how they are, and what they are doing.

    FOR is how long a backend has been in its state. ACTIVE are established connections, WAIT those
    of them with a request that it has not begun to answer, RESPONSE the time that its answers took
    lately; JSON has quantiles. NEW/S are new connections per second, IN and OUT bits per second from
    and to the clients. LAST PROBE is the round trip that the last probe measured, of what traffic does
    not. CPU, MEM and AGENT are what the agents report, if there are any.
    """
    client = location.client()

    def look() -> Backends:
        backends: Backends = client.get("backends", service=service)["backends"]
        return backends

    if as_json:
        write_json({"backends": look()})
    elif interval:
        write_backends(*measure(look, interval, time.monotonic, time.sleep))
    else:
        write_backends(look())


def write_backends(backends: Backends, rates: dict[tuple[str, str], Rates] | None = None) -> None:
    """A table of backends, with their rates if there are any, and the reason why one is down."""
    if not backends:
        click.echo("No backends.")
        return
    agents = any(one["agent"] for one in backends)
    any_probed = any(one["probe"] for one in backends)
    measured = (Column("NEW/S", "right"), Column("IN", "right"), Column("OUT", "right"))
    columns = (
        Column("SERVICE"),
        Column("BACKEND"),
        Column("WEIGHT", "right"),
        Column("STATE", states=True),
        Column("FOR"),
        Column("ACTIVE", "right"),
        Column("WAIT", "right"),
        Column("RESPONSE", "right"),
        *((Column("LAST PROBE"),) if any_probed else ()),
        *(measured if rates is not None else ()),
        *(_AGENT_COLUMNS if agents else ()),
    )
    rows = []
    for one in backends:
        figures: tuple[str, ...] = ()
        if rates is not None:
            rate = rates.get((one["service"], one["address"]))
            figures = (
                (quantity(rate.connections), quantity(rate.bits_in), quantity(rate.bits_out))
                if rate
                else ("-", "-", "-")
            )
        rows.append(
            (
                one["service"],
                one["address"],
                str(one["weight"]),
                one["state"],
                duration(one["since"]),
                str(one["established"]),
                str(one["outstanding"]),
                seconds(one["responses"]["average"]),
                *((_last_probe(one["probe"]),) if any_probed else ()),
                *figures,
                *(_agent(one["agent"]) if agents else ()),
            )
        )
    write_annotated_table(columns, rows, "REASON", [note(one) for one in backends])


def _last_probe(probe: Mapping[str, Any] | None) -> str:
    """``syn 213us, 4s ago``; without a time, what came of it instead."""
    if probe is None:
        return "-"
    figure = probe["outcome"] if probe["round_trip"] is None else seconds(probe["round_trip"])
    return f"{probe['kind']} {figure}, {duration(probe['age'])} ago"


def note(one: Mapping[str, Any]) -> str:
    """What is not plain from the state and the time it has lasted."""
    reason = "" if one["reason"].startswith("since ") else one["reason"]
    # A reason that is the agent's has all that it says.
    agent = one["agent"]["reason"] if one["agent"] and not reason.startswith("by its agent") else ""
    notes = (
        reason,
        f"agent: {agent}" if agent else "",
        "not as in the config file" if one["source"] == "runtime" else "",
    )
    return "; ".join(filter(None, notes))


def _agent(agent: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """CPU, memory and what the agent says, or what is wrong with it."""
    if agent is None:
        return "-", "-", "-"
    cpu, memory = ("-" if agent[name] is None else f"{agent[name]:.0%}" for name in ("cpu", "memory"))
    return cpu, memory, agent["state"]


@backend.command()
@_service
@_new_address
@click.option("--weight", type=click.IntRange(0, 65535), default=1, show_default=True, help="0 drains.")
@runtime_option
@pass_location
def add(location: Location, service: str, address: Endpoint, weight: int, runtime: bool) -> None:
    """Add a backend, for example: l4lb backend add web 10.2.0.13:80 --weight 2"""
    body = {"address": str(address), "weight": weight, "runtime": runtime}
    location.client().post("services", service, "backends", body=body)
    click.echo(f"{service}: added backend {address}, weight {weight}")


@backend.command()
@_service
@_address
@runtime_option
@pass_location
def remove(location: Location, service: str, address: Endpoint, runtime: bool) -> None:
    """Remove a backend; its connections are reset. To let them finish, drain it first."""
    query = {"runtime": 1} if runtime else {}
    location.client().delete("services", service, "backends", str(address), **query)
    click.echo(f"{service}: removed backend {address}")


@backend.command()
@_service
@_address
@runtime_option
@pass_location
def drain(location: Location, service: str, address: Endpoint, runtime: bool) -> None:
    """Give a backend no new connections (weight 0); those it has go on."""
    answer = _change(location, service, address, {"action": "drain", "runtime": runtime})
    click.echo(drained(answer))


@backend.command()
@_service
@_address
@runtime_option
@pass_location
def enable(location: Location, service: str, address: Endpoint, runtime: bool) -> None:
    """Undo a drain: give a backend the weight it had.

    It is remembered over restarts, but not by 'l4lb stop' or a boot.
    """
    answer = _change(location, service, address, {"action": "enable", "runtime": runtime})
    click.echo(enabled(answer))


@backend.command()
@_service
@_address
@click.argument("weight", type=click.IntRange(0, 65535))
@runtime_option
@pass_location
def weight(location: Location, service: str, address: Endpoint, weight: int, runtime: bool) -> None:
    """Change a backend's share of new connections; 0 drains it."""
    answer = _change(location, service, address, {"weight": weight, "runtime": runtime})
    click.echo(_with_warning(f"{service}: {address} has weight {answer['weight']}", answer))


def drained(answer: Mapping[str, Any]) -> str:
    """What has been done to a backend, as the daemon reports it."""
    left = counted(answer["established"], "connection")
    return _with_warning(f"{answer['service']}: draining {answer['address']}, {left} left", answer)


def enabled(answer: Mapping[str, Any]) -> str:
    """As ``drained``."""
    line = f"{answer['service']}: enabled {answer['address']}, weight {answer['weight']}"
    known = answer.get("restored", True)  # an older daemon does not say
    return line if known else f"{line}: what it had before it was drained is not known"


def _with_warning(line: str, answer: Mapping[str, Any]) -> str:
    """With what the change means for the service, if that has nobody for its clients now."""
    warning = answer.get("warning")  # an older daemon does not say
    return f"{line}; {warning}" if warning else line


def _change(location: Location, service: str, address: Endpoint, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = location.client().patch(
        "services", service, "backends", str(address), body=body
    )
    return answer
