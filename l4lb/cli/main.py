"""The command line: ``l4lb``. Exit status 0 done, 1 refused or failed, 2 wrong usage."""

from __future__ import annotations

import click

from l4lb.cli import daemon
from l4lb.cli.agent import agent
from l4lb.cli.backend import backend
from l4lb.cli.completion import completion
from l4lb.cli.connection import connection
from l4lb.cli.explain import explain
from l4lb.cli.install_service import install_service
from l4lb.cli.options import MainGroup
from l4lb.cli.probe import probe
from l4lb.cli.service import service
from l4lb.cli.status import status
from l4lb.cli.top.command import top


@click.group(cls=MainGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="l4lb", prog_name="l4lb", message="%(prog)s %(version)s")
def main() -> None:
    """A layer-4 NAT load balancer for Linux gateways.

    'l4lb run' balances as the config file says. The other commands ask or change a running daemon;
    changes are written to its config file unless --runtime is given.
    """


for command in (
    daemon.run,
    daemon.check,
    daemon.reload,
    daemon.stop,
    agent,
    status,
    top,
    service,
    backend,
    connection,
    explain,
    probe,
    install_service,
    completion,
):
    main.add_command(command)
