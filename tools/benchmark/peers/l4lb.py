"""l4lb on the gateway: its config, and where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from benchmark.lab.cores import EVERYWHERE, stay
from benchmark.lab.hosts import Hosts
from benchmark.peers.service import Agents, Served
from netlab import daemon
from netlab.daemon import Daemon


def config_text(datapath: str, vip: str, services: Sequence[Served], established: int | None = None) -> str:
    """The text of a config file. ``established``: the limit of connections, if not the default. Where no
    service is checked nothing is probed either: what the backends get is the benchmark's and counted."""
    lines = ["[gateway]", f'datapath = "{datapath}"']
    if all(service.checked is None for service in services):
        lines += ["[gateway.probes]", "enabled = false"]
    if established is not None:
        lines += ["[gateway.limits]", f"established = {established}"]
    for service in services:
        check = 'check = "none"' if service.checked is None else f"port = {service.checked}"
        lines += [
            *("[[services]]", f'name = "{service.name}"', f'address = "{vip}:{service.port}"'),
            *([f'scheduler = "{service.scheduler}"'] if service.scheduler else []),
            *("[services.health]", check),
            *(_agents_table(service.agents) if service.agents is not None else ()),
        ]
        for backend in service.backends:
            lines += ["[[services.backends]]", f'address = "{backend}"']
    return "\n".join(lines) + "\n"


def _agents_table(agents: Agents) -> tuple[str, ...]:
    return (
        "[services.agent]",
        f"port = {agents.port}",
        f'key = "{agents.key}"',
        f"interval = {agents.interval}",
        f"timeout = {agents.interval}",
    )


@contextmanager
def running(hosts: Hosts, datapath: str, text: str) -> Iterator[Daemon]:
    """l4lb with a config, ready, all backends up.

    Raises:
        LabError: it does not come up, takes another datapath, or does not stop.
    """
    with daemon.running(partial(hosts.command, "gateway"), hosts.directory, datapath, text) as control:
        _free(control)
        yield control


def start_again(control: Daemon) -> None:
    """Start one that has ended; back when all its backends are up.

    Raises:
        LabError: it does not come up.
    """
    control.start()
    control.wait_up()
    _free(control)


def _free(control: Daemon) -> None:
    """No packet passes through the control process: it may run where there is time for it. The packet
    process, which it has started by now, stays where this one was."""
    stay(control.pid, EVERYWHERE)
