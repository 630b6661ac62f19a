"""``l4lb explain``: which backend a client would get, and why."""

from __future__ import annotations

from typing import Any

import click

from l4lb.cli.completion import complete_service
from l4lb.cli.options import Location, endpoint, json_option, pass_location
from l4lb.cli.output import Column, printable, quantity, write_fields, write_json, write_table
from l4lb.model import Endpoint


@click.command()
@click.argument("client", type=endpoint, metavar="CLIENT:PORT")
@click.argument("service", shell_complete=complete_service)
@json_option
@pass_location
def explain(location: Location, client: Endpoint, service: str, as_json: bool) -> None:
    """Say which backend a client would get for its next connection, and why.

    Nothing is chosen or counted. Where a turn or chance decides, the candidates are shown, the best
    first.
    """
    answer = location.client().get("explain", client=str(client), service=service)
    if as_json:
        write_json(answer)
        return
    fields = [
        ("backend", answer["backend"] or "not certain"),
        ("scheduler", answer["scheduler"]),
        ("rule", answer["rule"]),
    ]
    if answer["but"]:
        fields.append(("but", answer["but"]))
    write_fields(fields)
    if answer["candidates"]:
        click.echo()
        _write_candidates(answer["candidates"])
    for address, why in answer["away"].items():
        click.echo(printable(f"not {address}: {why}"))


def _write_candidates(candidates: list[dict[str, Any]]) -> None:
    columns = [Column("BACKEND"), Column("WEIGHT", "right")]
    by_cost = "price" in candidates[0]
    if by_cost:
        columns += [Column(title, "right") for title in ("COST", "IN FLIGHT", "IDLE", "PRICE")]
        columns.append(Column("HOT"))
    else:
        columns.append(Column("SHARE", "right"))
    names = list(dict.fromkeys(name for each in candidates for name in each["signals"]))
    columns += [Column(name.upper()) for name in names]
    cheapest = min((each["price"] for each in candidates), default=1) if by_cost else 1
    rows = []
    for each in candidates:
        row = [each["address"], str(each["weight"])]
        if by_cost:
            row += [str(each["cost"]), str(each["in_flight"]), str(each["idle"])]
            row += [quantity(each["price"] / cheapest), "hot" if each["hot"] else ""]
        else:
            row.append(f"{100 * each['share']:.1f}%")
        rows.append([*row, *(each["signals"].get(name, "-") for name in names)])
    write_table(columns, rows)
