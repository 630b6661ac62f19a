"""Shell completion: the script for the shell, and names that only the daemon knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from l4lb.cli.client import Client, DaemonError
from l4lb.cli.options import Command, Failure, Location

_TIMEOUT = 0.5  # seconds that a person pressing TAB is kept waiting for the daemon


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script.

    For example, in ~/.bashrc: eval "$(l4lb completion bash)"
    """
    context = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    if kind is None:
        raise Failure(f"this version of click has no completion for {shell}")
    click.echo(kind(context.command, {}, "l4lb", "_L4LB_COMPLETE").source())


def complete_service(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of services."""
    services = _ask(context, lambda client: client.get("services")["services"])
    return [
        CompletionItem(service["name"], help=f"{service['address']} {service['protocol']}")
        for service in services
        if service["name"].startswith(incomplete)
    ]


def complete_backend(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Addresses of backends, of the service that was named before."""
    service = context.params.get("service")
    backends = _ask(context, lambda client: client.get("backends", service=service)["backends"])
    return [
        CompletionItem(backend["address"], help=f"{backend['service']}, {backend['state']}")
        for backend in backends
        if backend["address"].startswith(incomplete)
    ]


def _ask(context: click.Context, question: Callable[[Client], Any]) -> list[dict[str, Any]]:
    location = context.find_object(Location) or Location()
    try:
        answer: list[dict[str, Any]] = question(Client(location.socket, _TIMEOUT))
    except DaemonError:
        return []
    return answer
