"""The command itself: options only, for it is loaded with every other command."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from l4lb.cli.completion import complete_service
from l4lb.cli.options import Command, Location, pass_location, seconds_between
from l4lb.cli.top import LONGEST, SHORTEST

_TIMEOUT = 5.0  # seconds to wait for an answer, for as long as no key is heeded


def _column(name: str) -> str:
    """The value of ``--sort``."""
    if name not in _columns():
        raise click.BadParameter(f"'{name}' is not one of {', '.join(_columns())}")
    return name


def _complete_column(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(name) for name in _columns() if name.startswith(incomplete)]


def _columns() -> list[str]:
    # Imported here because no other command needs them.
    from l4lb.cli.top.columns import NAMED

    return list(NAMED)


@click.command(cls=Command)
@click.option(
    "--interval",
    type=seconds_between(SHORTEST, LONGEST),
    default="1",
    show_default=True,
    metavar="SECONDS",
    help="Between looks; what is shown per second is of one interval.",
)
@click.option("--service", shell_complete=complete_service, help="Only this service.")
@click.option(
    "--sort",
    type=_column,
    default="backend",
    show_default=True,
    shell_complete=_complete_column,
    metavar="COLUMN",
    help="What the backends of a service are sorted by.",
)
@click.option("--once", is_flag=True, help="Print one interval as a table, as without a terminal.")
@pass_location
def top(location: Location, interval: float, service: str | None, sort: str, once: bool) -> None:
    """Show services and backends live.

    SHARE is a backend's part of the new connections of its service, NEW/S those per second, REQ/S
    requests that it began to answer, P50 and P99 the times that these answers took, all of the last
    interval. WAIT are connections with a request that it has not begun to answer, ACTIVE established
    ones, IN and OUT bits per second from and to the clients.

    Keys: arrows, j and k select a backend, d drains it (y says yes) and e enables it again, in the
    config file too; s sorts by the next column, r reverses, f shows one service only, space pauses,
    + and - change the interval, ? tells this, q quits.
    """
    client = location.client(_TIMEOUT)
    if service is not None:
        client.get("services", service)
    # Imported here because no other command needs them, nor rich.
    from l4lb.cli.top import live
    from l4lb.cli.top.view import View

    live.run(client, View(sort=sort, interval=interval, service=service), once=once)
