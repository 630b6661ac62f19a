"""``l4lb agent``: what runs on a backend and says how it is doing."""

from __future__ import annotations

from pathlib import Path

import click

from l4lb.cli.options import Command, Failure, endpoint, log_level_option, seconds_between
from l4lb.model import Endpoint

_FILE = click.Path(readable=False, path_type=Path)  # what is wrong with a file is found out by using it


@click.command(cls=Command)
@click.option("--listen", type=endpoint, metavar="ADDR:PORT", help="Answer l4lb's questions here (UDP).")
@click.option("--tcp", type=endpoint, metavar="ADDR:PORT", help="Answer HAProxy's agent-check here (TCP).")
@click.option("--key", type=_FILE, metavar="FILE", help="The key of the questions; --listen needs one.")
@click.option(
    "--interval",
    type=seconds_between(0.05, 60),
    default="0.5",
    show_default=True,
    metavar="SECONDS",
    help="How often to measure; CPU and queues are averaged over some three intervals.",
)
@click.option(
    "--application",
    type=_FILE,
    metavar="FILE",
    help="A number from 0 (idle) to 1 (full) that the application writes there.",
)
@click.option(
    "--application-max-age",
    type=seconds_between(0.1, 86_400),
    default="10",
    show_default=True,
    metavar="SECONDS",
    help="Ignore that number if it was not written for so long.",
)
@click.option(
    "--state",
    type=_FILE,
    metavar="FILE",
    help="The state to report: ready, drain, maint, or up, down, fail, stopped, and why after a '#'.",
)
@log_level_option
def agent(
    listen: Endpoint | None,
    tcp: Endpoint | None,
    key: Path | None,
    interval: float,
    application: Path | None,
    application_max_age: float,
    state: Path | None,
    log_level: str,
) -> None:
    """Report this host's CPU, memory, load and accept queues to gateways. Runs on a backend.

    Needs no root. --listen is for l4lb, --tcp for HAProxy's agent-check. SIGTERM and SIGINT stop it.
    """
    if listen is None and tcp is None:
        raise click.UsageError("nothing to do: give --listen, --tcp or both")
    if listen is not None and key is None:
        raise click.UsageError("--listen needs a --key: 'openssl rand -hex 32' makes one")
    # Imported here because of asyncio and psutil.
    import asyncio

    from l4lb.agent.keys import BadKeyFile
    from l4lb.agent.serve import Agent, CannotServe, Options
    from l4lb.control import log as logs
    from l4lb.service.stop_signals import ignored_at_the_end

    logs.configure(log_level)
    try:
        options = Options(listen, tcp, key, interval, application, application_max_age, state)
        with ignored_at_the_end():
            asyncio.run(Agent(options).run())
    except (BadKeyFile, CannotServe) as error:
        raise Failure(str(error)) from None
