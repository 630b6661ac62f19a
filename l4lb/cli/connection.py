"""``l4lb connection``: what is being tracked."""

from __future__ import annotations

from typing import Any

import click

from l4lb.cli.filters import connection_filters
from l4lb.cli.options import Group, Location, json_option, pass_location
from l4lb.cli.output import Column, counted, duration, write_json, write_table
from l4lb.model import Endpoint


@click.group(cls=Group)
def connection() -> None:
    """The connections that are tracked."""


@connection.command("list")
@connection_filters
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="How many at most. Of more, raw lists the latest, tc and xdp any.",
)
@json_option
@pass_location
def list_connections(
    location: Location,
    service: str | None,
    backend: Endpoint | None,
    client_ip: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List connections, those with the latest packet first.

    IDLE is the time since that packet, EXPIRES the time until the connection is forgotten if no
    other comes. FROM is what the backend sees as the client, where that is not the client itself.
    """
    answer = location.client().get(
        "connections", service=service, backend=backend, client=client_ip, limit=limit
    )
    if as_json:
        write_json(answer)
        return
    found = sorted(answer["connections"], key=lambda one: (one["idle"], one["client"]))
    if not found:
        click.echo("No connections.")
        return
    translated = any(one["source"] != one["client"] for one in found)
    columns = (
        Column("CLIENT"),
        Column("VIP"),
        *((Column("FROM"),) if translated else ()),
        Column("BACKEND"),
        Column("STATE"),
        Column("IDLE", "right"),
        Column("EXPIRES", "right"),
    )
    write_table(columns, [_row(one, translated) for one in found])
    if answer["total"] > len(found):
        click.echo(f"{len(found)} of {answer['total']}: see --limit and the filters", err=True)


def _row(one: dict[str, Any], translated: bool) -> tuple[str, ...]:
    return (
        one["client"],
        one["vip"],
        *((one["source"],) if translated else ()),
        one["backend"],
        one["state"],
        duration(one["idle"]),
        duration(one["expires"]),
    )


@connection.command()
@connection_filters
@click.option("--all", "everything", is_flag=True, help="All connections of all services.")
@json_option
@pass_location
def flush(
    location: Location,
    service: str | None,
    backend: Endpoint | None,
    client_ip: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Reset and forget the connections that match every filter given."""
    filtered = service is not None or backend is not None or client_ip is not None
    if filtered == everything:
        raise click.UsageError("give --service, --backend or --client, or else --all")
    answer = location.client().delete(
        "connections",
        service=service,
        backend=backend,
        client=client_ip,
        all=1 if everything else None,
    )
    if as_json:
        write_json(answer)
    else:
        click.echo(f"flushed {counted(answer['flushed'], 'connection')}")
