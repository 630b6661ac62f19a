"""The options that say which connections are meant, alike for all commands about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from l4lb.cli.completion import complete_backend, complete_service
from l4lb.cli.options import endpoint, ip_address

F = TypeVar("F", bound=Callable[..., Any])


def connection_filters(function: F) -> F:
    """Adds ``client_ip``, ``backend`` and ``service``."""
    for option in (
        click.option("--client", "client_ip", type=ip_address, metavar="IP", help="Only from this client."),
        click.option(
            "--backend",
            type=endpoint,
            metavar="ADDRESS:PORT",
            shell_complete=complete_backend,
            help="Only to this backend.",
        ),
        click.option("--service", shell_complete=complete_service, help="Only of this service."),
    ):
        function = option(function)
    return function
