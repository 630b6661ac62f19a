"""``l4lb service``: the VIPs, ports and protocols that are balanced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from l4lb.cli.backend import write_backends
from l4lb.cli.completion import complete_service
from l4lb.cli.options import (
    Group,
    Location,
    endpoint,
    json_option,
    pass_location,
    runtime_option,
    seconds_between,
)
from l4lb.cli.output import Column, duration, write_fields, write_json, write_table
from l4lb.model import Endpoint

if TYPE_CHECKING:
    from l4lb.schedulers import Scheduler


def _scheduler(name: str) -> str:
    """The value of ``--scheduler``."""
    if name not in _schedulers():
        raise click.BadParameter(f"'{name}' is not one of {', '.join(_schedulers())}")
    return name


def _complete_scheduler(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    fitting = (each for name, each in _schedulers().items() if name.startswith(incomplete))
    return [CompletionItem(each.name, help=each.description) for each in fitting]


def _schedulers() -> Mapping[str, Scheduler]:
    # Imported here because no other command needs them.
    from l4lb.schedulers import SCHEDULERS

    return SCHEDULERS


@click.group(cls=Group)
def service() -> None:
    """The VIPs, ports and protocols that are balanced."""


@service.command("list")
@json_option
@pass_location
def list_services(location: Location, as_json: bool) -> None:
    """List services; BACKENDS are those that are up, of all."""
    answer = location.client().get("services")
    if as_json:
        write_json(answer)
    elif not answer["services"]:
        click.echo("No services.")
    else:
        columns = (
            Column("SERVICE"),
            Column("ADDRESS"),
            Column("PROTO"),
            Column("SCHEDULER"),
            Column("NAT"),
            Column("BACKENDS", "right"),
            Column("ACTIVE", "right"),
        )
        write_table(columns, [_row(one) for one in answer["services"]])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    backends = one["backends"]
    up = sum(backend["state"] == "up" for backend in backends)
    return (
        one["name"],
        one["address"],
        one["protocol"],
        one["scheduler"],
        one["nat"],
        f"{up}/{len(backends)}",
        str(sum(backend["established"] for backend in backends)),
    )


@service.command()
@click.argument("name", shell_complete=complete_service)
@json_option
@pass_location
def show(location: Location, name: str, as_json: bool) -> None:
    """Show one service with its settings and backends."""
    one = location.client().get("services", name)
    if as_json:
        write_json(one)
        return
    affinity = one["affinity"]
    if affinity != "none":
        affinity += f", for {duration(one['affinity_timeout'])}"
    write_fields(
        [
            ("name", one["name"]),
            ("address", f"{one['address']} {one['protocol']}"),
            ("scheduler", one["scheduler"]),
            ("nat", one["nat"]),
            ("affinity", affinity),
            ("when all down", one["when_all_down"]),
            ("when a backend is down", one["when_backend_down"]),
            ("health check", _health(one["health"])),
            ("agents", _agent(one["agent"])),
        ]
    )
    click.echo()
    write_backends(one["backends"])


def _health(health: dict[str, Any]) -> str:
    check: str = health["check"]
    if check == "none":
        return check
    if health["port"]:
        check += f" on port {health['port']}"
    if health["check"] == "http":
        host = f" of {health['host']}" if health["host"] else ""
        check += f" {health['path']}{host}, status {' '.join(health['status'])}"
    return (
        f"{check}, every {health['interval']:g} s, timeout {health['timeout']:g} s, "
        f"up after {health['rise']}, down after {health['fall']}"
    )


def _agent(agent: dict[str, Any] | None) -> str:
    if agent is None:
        return "none"
    asked = "HAProxy's agent-check" if agent["protocol"] == "tcp" else f"key {agent['key']}"
    return (
        f"{agent['protocol']} port {agent['port']}, {asked}, every {agent['interval']:g} s, "
        f"timeout {agent['timeout']:g} s, hot above {agent['cpu_limit']:.0%} CPU "
        f"or {agent['memory_limit']:.0%} memory"
    )


@service.command()
@click.argument("name")
@click.argument("address", type=endpoint, metavar="ADDRESS:PORT")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]))
@click.option(
    "--scheduler",
    type=_scheduler,
    shell_complete=_complete_scheduler,
    metavar="NAME",
    help="What picks the backend of a new connection.",
)
@click.option("--nat", type=click.Choice(["destination", "full"]), help="full: the source as well.")
@click.option("--affinity", type=click.Choice(["none", "client"]), help="client: stays on one backend.")
@click.option(
    "--affinity-timeout",
    type=seconds_between(1, 30 * 86_400),
    metavar="SECONDS",
    help="How long it stays.",
)
@click.option("--when-all-down", type=click.Choice(["refuse", "use_all"]), help="For new connections.")
@click.option("--when-backend-down", type=click.Choice(["reset", "keep"]), help="For its connections.")
@click.option(
    "--check", type=click.Choice(["tcp", "http", "agent", "none"]), help="How backends are checked."
)
@click.option("--check-port", type=click.IntRange(1, 65535), help="Another port than the backend's own.")
@click.option("--check-path", metavar="PATH", help="What http checks ask for.")
@click.option("--agent-port", type=click.IntRange(1, 65535), help="Ask the backends' agents there.")
@click.option("--agent-protocol", type=click.Choice(["udp", "tcp"]), help="tcp: HAProxy's agent-check.")
@click.option("--agent-key", metavar="FILE", help="The key of the agents, for udp.")
@click.option(
    "--backend",
    "backends",
    type=endpoint,
    metavar="ADDRESS:PORT",
    multiple=True,
    help="A backend; may be given several times.",
)
@runtime_option
@pass_location
def add(
    location: Location,
    /,
    name: str,
    address: Endpoint,
    backends: tuple[Endpoint, ...],
    check: str | None,
    check_port: int | None,
    check_path: str | None,
    agent_port: int | None,
    agent_protocol: str | None,
    agent_key: str | None,
    runtime: bool,
    **settings: object,
) -> None:
    """Add a service at ADDRESS, the VIP and port. What is not said gets the config's defaults."""
    if check_path is not None and check != "http":
        raise click.UsageError("--check-path needs --check http")
    health = {"check": check, "port": check_port, "path": check_path}
    fields: dict[str, object] = {"name": name, "address": str(address), **_given(settings)}
    if given := _given(health):
        fields["health"] = given
    agent = {"port": agent_port, "protocol": agent_protocol, "key": agent_key}
    if given := _given(agent):
        if agent_port is None:
            raise click.UsageError("--agent-key and --agent-protocol need an --agent-port")
        fields["agent"] = given
    if backends:
        fields["backends"] = [{"address": str(backend)} for backend in backends]
    location.client().post("services", body={"runtime": runtime, "service": fields})
    click.echo(f"added service {name} at {address}")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@service.command()
@click.argument("name", shell_complete=complete_service)
@runtime_option
@pass_location
def remove(location: Location, name: str, runtime: bool) -> None:
    """Remove a service; its connections are reset."""
    query = {"runtime": 1} if runtime else {}
    location.client().delete("services", name, **query)
    click.echo(f"removed service {name}")
