"""The commands that start, check, reload and stop the daemon."""

from __future__ import annotations

import os
import signal
import sys

import click

from l4lb.cli.client import NoDaemon
from l4lb.cli.options import Command, Failure, Location, json_option, log_level_option, pass_location
from l4lb.cli.output import counted, write_json

_STOP_TIMEOUT = 120.0  # seconds: the answer comes when everything is taken down


@click.command(cls=Command)
@log_level_option
@pass_location
@click.pass_context
def run(context: click.Context, location: Location, log_level: str) -> None:
    """Run the daemon in the foreground.

    SIGHUP reloads the config file. SIGTERM and SIGINT stop, and keep what a restart needs to go on
    with the connections; 'l4lb stop' leaves nothing behind.
    """
    # One that comes before there is a handler would end us. It waits until Daemon.serve lets it in.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    _open_standard_streams()
    _need_root("run")
    _need_capabilities()
    # Imported here because it takes longer than any other command.
    from l4lb.control import daemon

    context.exit(daemon.run(location.config, location.socket, log_level=log_level))


def _open_standard_streams() -> None:
    """Open what was closed before we started: a socket would get its number, and what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - for as long as we run


@click.command(cls=Command)
@json_option
@pass_location
@click.pass_context
def check(context: click.Context, location: Location, as_json: bool) -> None:
    """Check the config file.

    Every error in it is reported with its line and column. A key of agents that cannot be read is a
    warning, for that file may come later than the config.
    """
    from l4lb.control.config.config import ConfigError, load
    from l4lb.control.host_checks import key_problems

    errors: list[str] = []
    warnings: list[str] = []
    try:
        config = load(location.config)
        warnings = key_problems(config.services)
    except ConfigError as error:
        errors = error.errors
    if as_json:
        write_json({"config": str(location.config), "errors": errors, "warnings": warnings})
    elif errors:
        click.echo("\n".join(errors), err=True)
    else:
        backends = sum(len(service.backends) for service in config.services)
        found = f"{counted(len(config.services), 'service')}, {counted(backends, 'backend')}"
        for warning in warnings:
            click.secho(f"warning: {warning}", fg="yellow", err=True)
        click.echo(f"{location.config}: no errors, {found}")
    context.exit(1 if errors else 0)


@click.command(cls=Command)
@json_option
@pass_location
def reload(location: Location, as_json: bool) -> None:
    """Make the daemon read its config file again.

    Connections of backends that stay are not touched, but of a service with another 'nat', 'address' or
    'protocol' all are reset. A file with errors is refused whole.
    """
    answer = location.client().post("reload")
    if as_json:
        write_json(answer)
    else:
        click.echo("\n".join(answer["changes"]) or "nothing has changed")


@click.command(cls=Command)
@pass_location
def stop(location: Location) -> None:
    """Stop the daemon and leave nothing of it on the host.

    All connections through the gateway end. Without a daemon, what a killed one has left is
    removed. To restart without losing connections, use SIGTERM and 'l4lb run' instead.
    """
    # Neither, if one that was just starting has begun to answer in between: then it is asked.
    while not (_asked_to_stop(location) or _cleaned_up(location)):
        pass


def _asked_to_stop(location: Location) -> bool:
    """False if there is no daemon to ask."""
    try:
        location.client(_STOP_TIMEOUT).post("stop")
    except NoDaemon:
        return False
    click.echo("stopped")
    return True


def _cleaned_up(location: Location) -> bool:
    """False if there is a daemon to ask."""
    _need_root("stop")
    from l4lb.control.cleanup import DaemonAnswers, clean_up
    from l4lb.control.lock import Refused
    from l4lb.datapath.base import DatapathError
    from l4lb.netlink.vips import VipError

    try:
        removed = clean_up(location.socket)
    except DaemonAnswers:
        return False
    except (Refused, DatapathError, VipError, OSError) as error:
        raise Failure(f"cannot clean up: {error}") from None
    click.echo("no daemon was running; " + ("removed:" if removed else "nothing was left of one"))
    for line in removed:
        click.echo(f"  {line}")
    return True


def _need_root(command: str) -> None:
    if os.geteuid() != 0:
        raise Failure(f"'l4lb {command}' must be run as root")


def _need_capabilities() -> None:
    """Those that every datapath needs; without more of them, ``auto`` has a reason to take ``raw``."""
    from l4lb import privileges

    needed = (privileges.Capability.NET_ADMIN, privileges.Capability.NET_RAW)
    if lacking := privileges.missing(needed, privileges.held()):
        raise Failure(lacking)
