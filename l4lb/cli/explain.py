"""``l4lb explain``: which backend a client would get, or clients got, and why."""

from __future__ import annotations

from typing import Any

import click

from l4lb.cli.completion import complete_service
from l4lb.cli.filters import connection_filters
from l4lb.cli.options import Command, Location, endpoint, json_option, pass_location
from l4lb.cli.output import Column, printable, quantity, write_fields, write_json, write_table
from l4lb.model import Endpoint


@click.command(cls=Command)
@click.argument("whose", type=endpoint, metavar="[CLIENT:PORT", required=False)
@click.argument("of", metavar="SERVICE]", required=False, shell_complete=complete_service)
@click.option("--last", is_flag=True, help="Show choices that were made.")
@connection_filters
@click.option("--limit", type=click.IntRange(1, 512), default=20, show_default=True)
@json_option
@pass_location
def explain(
    location: Location,
    /,
    whose: Endpoint | None,
    of: str | None,
    last: bool,
    limit: int,
    as_json: bool,
    **filters: Any,
) -> None:
    """Say which backend a client would get for its next connection, and why.

    Nothing is chosen or counted. A connection from that very port goes before the scheduler, and so does
    affinity; what would be without them is shown as otherwise. Where a turn or chance decides, the
    candidates are shown, the best first.

    --last shows the last choices that were really made, the newest first, and what was known then: one in
    a tenth of a second of each service. The other options choose among them.
    """
    if not last:
        if whose is None or of is None:
            raise click.UsageError("name a client and a service, or say --last")
        if any(value is not None for value in filters.values()):
            raise click.UsageError("--client, --backend and --service are for --last")
        _explain(location, whose, of, as_json=as_json)
    elif whose is not None:
        raise click.UsageError("--last takes its choices from all: see --client and --service")
    else:
        _show_last(location, filters, limit, as_json=as_json)


def _show_last(location: Location, filters: dict[str, Any], limit: int, *, as_json: bool) -> None:
    client = filters.pop("client_ip")
    answer = location.client().get("decisions", client=client, limit=limit, **filters)
    if as_json:
        write_json(answer)
        return
    columns = [Column("AGE", "right")]
    columns += [Column(title) for title in ("CLIENT", "SERVICE", "BACKEND", "WHY", "SECOND BEST")]
    write_table(
        columns,
        [
            [
                f"{each['age']:.1f}s",
                each["client"],
                each["service"],
                each["backend"],
                _why(each),
                _second(each),
            ]
            for each in answer["decisions"]
        ],
    )


_WHY = {
    "turn": "its turn",
    "random": "drawn at random",
    "source": "hash of the client's address",
    "flow": "hash of addresses and ports",
    "affinity": "its client's last one",
}


def _why(decision: dict[str, Any]) -> str:
    """Why the backend was chosen."""
    best = decision["best"]
    if best is None:
        return _WHY.get(decision["rule"], "the least price")
    heat = "all hot, " if best["hot"] else ""
    return f"{heat}the least of {decision['compared']}: {_asked(best)}"


def _second(decision: dict[str, Any]) -> str:
    """What the second best backend asked, as a multiple of the best."""
    best, second = decision["best"], decision["runner_up"]
    if best is None or second is None:
        return "-"
    heat = "hot, " if second["hot"] and not best["hot"] else ""
    dearer = quantity(second["price"] / max(1, best["price"]))
    return f"{second['backend']}: {heat}{dearer} times as dear, {_asked(second)}"


def _asked(offer: dict[str, Any]) -> str:
    return f"cost {offer['cost']}, {offer['in_flight']} in flight, {offer['idle']} idle"


def _explain(location: Location, client: Endpoint, service: str, *, as_json: bool) -> None:
    answer = location.client().get("explain", client=str(client), service=service)
    if as_json:
        write_json(answer)
        return
    fields = [
        ("backend", answer["backend"] or "not certain"),
        ("scheduler", answer["scheduler"]),
        ("rule", answer["rule"]),
    ]
    if answer["otherwise"]:
        backend, rule = answer["otherwise"]["backend"] or "not certain", answer["otherwise"]["rule"]
        fields.append(("otherwise", f"{backend}: {rule}"))
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
