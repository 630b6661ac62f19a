"""Shell completion: the script for the shell, and names that only the daemon knows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from l4lb.cli.client import Client, DaemonError
from l4lb.cli.options import Command, Failure, Location

_TIMEOUT = 0.5  # seconds that a person pressing TAB is kept waiting for the daemon

_BASH: Final = """\
%(complete_func)s() {
    local response type value
    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<< "$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """click's takes bash's words, which end at every colon: an address is several of them. This one takes
    the line, and gives back what follows the last colon, since that is what bash replaces."""

    source_template: ClassVar[str] = _BASH
    _typed = ""  # of the word to complete, that bash leaves as it is

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to complete, without the program's name, and that one."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        value = incomplete.partition("=")[2] if incomplete.startswith("--") else incomplete
        if ":" in os.environ["COMP_WORDBREAKS"]:
            self._typed = value[: value.rfind(":") + 1]
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """A line for the script."""
        return f"{item.type},{item.value.removeprefix(self._typed)}"


add_completion_class(Bash)


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
