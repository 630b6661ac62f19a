"""What all commands share: where config and daemon are, failing in one line, kinds of values."""

from __future__ import annotations

import errno
import ipaddress
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from l4lb.cli.client import TIMEOUT, Client, DaemonError
from l4lb.cli.output import printable
from l4lb.control.log import LEVELS
from l4lb.model import Endpoint

CONFIG = Path("/etc/l4lb/l4lb.toml")
SOCKET = Path("/run/l4lb/l4lb.sock")

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Failure(click.ClickException):
    """Refused or failed: each line on stderr after the program's name, exit status 1."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))

    def show(self, file: IO[Any] | None = None) -> None:
        """Called by click before it exits."""
        from l4lb.control.log import error_mark

        for line in self.lines:
            click.echo(f"{error_mark()}l4lb: {printable(line)}", file=file, err=True)


@dataclass
class Location:
    """Which config and which daemon a command is about."""

    config: Path = CONFIG
    socket: Path = SOCKET
    config_named: bool = False  # by option or environment

    def client(self, timeout: float = TIMEOUT) -> Client:
        """The daemon at the socket.

        Raises:
            Failure: it runs, but with another config than the one that was named.
        """
        client = Client(self.socket, timeout)
        if self.config_named:
            used = Path(client.get("status")["config"])
            if used.resolve() != self.config.resolve():
                raise Failure(f"the daemon at {self.socket} uses {used}, not {self.config}")
        return client


pass_location = click.make_pass_decorator(Location, ensure=True)


def _set_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        location = context.ensure_object(Location)
        location.config, location.config_named = _absolute(value), True


def _set_socket(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Location).socket = _absolute(value)


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError:
        raise Failure(f"{path}: the directory this was started in is gone: write the whole path") from None


def _location_options(*, environment: bool) -> list[click.Parameter]:
    """``-c`` and ``--socket``. Only the outermost command looks at the environment, so that it
    does not override what was said before the name of a command."""
    # What is wrong with a file is found out by using it: click would call it wrong usage.
    path = click.Path(readable=False, path_type=Path)
    return [
        click.Option(
            ["-c", "--config"],
            type=path,
            envvar="L4LB_CONFIG" if environment else None,
            expose_value=False,
            callback=_set_config,
            metavar="FILE",
            help=f"The config file [default: {CONFIG}].",
        ),
        click.Option(
            ["--socket"],
            type=path,
            envvar="L4LB_SOCKET" if environment else None,
            expose_value=False,
            callback=_set_socket,
            metavar="PATH",
            help=f"The daemon's control socket [default: {SOCKET}].",
        ),
    ]


class Command(click.Command):
    """A command that takes ``-c`` and ``--socket`` and reports a refusing daemon in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _location_options(environment=False)

    def invoke(self, context: click.Context) -> Any:
        """Called by click."""
        try:
            return super().invoke(context)
        except DaemonError as error:
            raise Failure(*error.lines) from None


class Group(click.Group):
    """Commands under one name; ``-c`` and ``--socket`` may stand before theirs."""

    command_class = Command
    reads_environment = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _location_options(environment=self.reads_environment)


class MainGroup(Group):
    """The outermost group."""

    group_class = Group
    reads_environment = True

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Called to run the program."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            # What is left in the buffer would be tried again, and complained of, at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(f"l4lb: the output cannot be written: {error.strerror}", err=True)
            sys.exit(1)


def endpoint(text: str) -> Endpoint:
    """``IP:PORT`` as the value of an option or argument."""
    try:
        return Endpoint.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def ip_address(text: str) -> str:
    """An IP address without a port, in its usual form."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise click.BadParameter(f"'{text}' is not an IP address") from None


def seconds_between(least: float, most: float) -> Callable[[str], float]:
    """A number of seconds as the value of an option; not click.FloatRange, which takes nan."""

    def value(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise click.BadParameter(f"'{text}' is not a number of seconds from {least:g} to {most:g}")
        return number

    return value


F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")(function)


def log_level_option(function: F) -> F:
    """``--log-level``."""
    levels = click.Choice(LEVELS)
    return click.option("--log-level", type=levels, default="info", show_default=True)(function)


def runtime_option(function: F) -> F:
    """``--runtime``."""
    text = "Apply without writing the config file; lost at the next reload or start."
    return click.option("--runtime", is_flag=True, help=text)(function)
