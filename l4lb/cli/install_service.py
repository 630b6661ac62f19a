"""``l4lb install-service``: systemd's units, a first config, and their removal."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from l4lb.cli.options import CONFIG, SOCKET, Command, Failure, Location, pass_location

if TYPE_CHECKING:
    from l4lb.service.units import Service


@click.command("install-service", cls=Command)
@click.option("--agent", is_flag=True, help="The agent's unit, on a backend, instead of the gateway's.")
@click.option("--enable", is_flag=True, help="Start it at every boot.")
@click.option("--now", is_flag=True, help="Start it at every boot, and now.")
@click.option("--force", is_flag=True, help="Overwrite a unit that was changed since it was installed.")
@click.option(
    "--remove",
    is_flag=True,
    help="Stop it and take away what was installed, but nothing that was changed since.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Install in the image at this directory instead of on this host.",
)
@pass_location
def install_service(
    location: Location,
    agent: bool,
    enable: bool,
    now: bool,
    force: bool,
    remove: bool,
    root: Path | None,
) -> None:
    """Install l4lb as a service of systemd, with a first config if there is none.

    Can be said again, after an upgrade for instance: what is out of date is replaced, and what somebody
    has changed stays as it is.
    """
    if root is not None and now:
        raise click.UsageError("--now starts it on this host: not with --root")
    if remove and (enable or now or force):
        raise click.UsageError("--remove goes with none of --enable, --now and --force")
    # In the unit they would be lost when this is said again without them, after an upgrade for instance.
    if location.config != CONFIG or (location.socket != SOCKET and not remove):
        raise click.UsageError(
            f"the unit is for {CONFIG} and {SOCKET}: leave out -c and --socket, also as L4LB_CONFIG and "
            "L4LB_SOCKET; 'systemctl edit l4lb' keeps others in ExecStart= and ExecReload="
        )
    from l4lb.service import systemd, units
    from l4lb.service.installation import Changed

    root = root.absolute() if root is not None else None
    service = units.AGENT if agent else units.GATEWAY
    try:
        if remove:
            _remove(service, root, location.socket)
        else:
            _install(service, root, force=force)
            _enable(service, root, enable=enable, now=now)
    except (Changed, systemd.SystemdError, units.UnusablePath) as error:
        raise Failure(str(error)) from None
    except OSError as error:
        hint = "" if os.geteuid() == 0 else ": run it as root"
        raise Failure(f"{error.filename or service.unit}: {error.strerror}{hint}") from None


def _install(service: Service, root: Path | None, *, force: bool) -> None:
    from l4lb.service import systemd, units
    from l4lb.service.installation import Installation

    program = _this_program()
    inside = PurePosixPath(program)
    if root is not None and program.is_relative_to(root):
        inside = PurePosixPath("/") / program.relative_to(root)
    lines = Installation(service.unit, root or Path("/")).install(service.files(inside), force=force)
    for line in lines:
        click.echo(line)
    if hidden := units.hidden_from_unit(Path(inside), *units.parts()) if root is None else []:
        click.echo(
            f"{hidden[0]} is hidden from the service by PrivateTmp=: install l4lb elsewhere", err=True
        )
    places = sorted({program.parent, program.resolve().parent, *units.parts()})
    if shut := units.out_of_reach(service, *places) if root is None else []:
        click.echo(
            f"{shut[0]} may not be entered by the service: install l4lb elsewhere, in /opt for instance",
            err=True,
        )
    if root is None and systemd.runs():
        systemd.systemctl("daemon-reload")


def _enable(service: Service, root: Path | None, *, enable: bool, now: bool) -> None:
    from l4lb.service import systemd, units

    if now and not systemd.runs():
        raise Failure(f"systemd does not run here: {service.unit} is installed, but not started")
    if now and service is units.AGENT and not Path(units.AGENT_KEY).exists():
        raise Failure(f"there is no {units.AGENT_KEY}: put the gateway's key there; nothing was started")
    if enable or now:
        systemd.systemctl("enable", service.unit, root=root)
        click.echo(f"{service.unit} enabled: it starts at every boot")
    if now:
        # Not 'enable --now': one that runs already is to run the unit that was installed.
        systemd.systemctl("restart", service.unit)
        click.echo(f"{service.unit} started")


def _remove(service: Service, root: Path | None, socket: Path) -> None:
    from l4lb.service import systemd, units
    from l4lb.service.installation import Installation

    installation = Installation(service.unit, root or Path("/"))
    if not installation.is_recorded:
        click.echo(f"{service.unit} was not installed by 'l4lb install-service': nothing is removed")
        return
    if not installation.has(units.UNITS / service.unit):
        pass  # nothing that systemd could stop
    elif root is not None:
        if systemd.is_enabled_in(root, service.unit):
            systemd.systemctl("disable", service.unit, root=root)
    elif systemd.runs():
        systemd.systemctl("disable", "--now", service.unit)
        click.echo(f"{service.unit} stopped and disabled")
    if root is None and service is units.GATEWAY:
        _leave_nothing(socket)
    for line in installation.remove():
        click.echo(line)
    if root is None and systemd.runs():
        systemd.systemctl("daemon-reload")


def _leave_nothing(socket: Path) -> None:
    """After SIGTERM a gateway goes on with its connections: as 'l4lb stop' does without a daemon."""
    from l4lb.control.cleanup import clean_up
    from l4lb.control.lock import Refused
    from l4lb.datapath.base import DatapathError
    from l4lb.netlink.vips import VipError

    try:
        for line in clean_up(socket):
            click.echo(f"{line} removed")
    except (Refused, DatapathError, VipError) as error:
        raise Failure(f"cannot clean up: {error}") from None


def _this_program() -> Path:
    """The l4lb that this is, by the name it was called by: a link stays one."""
    called = Path(os.path.abspath(sys.argv[0]))
    if called.name == "l4lb" and os.access(called, os.X_OK) and called.is_file():
        return called
    return Path(sys.executable).with_name("l4lb")
