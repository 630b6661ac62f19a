"""A virtual machine is a host of the lab: run on it, as root, with what ``handover`` packed.

    python3 -m netlab.guest HOST install    what its services need on disk
    python3 -m netlab.guest HOST up         take the role; at every boot
    python3 -m netlab.guest HOST start      the servers of a backend
    python3 -m netlab.guest HOST stop

Standard library only.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from netlab import LabError, gateway, process, role, servers
from netlab.record import HOME, namespace_inode
from netlab.tool import find_roots_programs
from netlab.topology import Host, load

LAB: Final = Path(__file__).resolve().parents[2]  # where provisioning put it
_CONFIG: Final = Path("/etc/l4lb")
_UNIT: Final = Path("/etc/systemd/system/l4lb-lab.service")
_PATIENCE: Final = 30.0  # seconds

# The addresses are there before anything that waits for the network; the servers stay in its group.
_UNIT_TEXT: Final = """\
[Unit]
Description=The lab of l4lb: this machine is its {name}
After=networking.service systemd-networkd.service
Before=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=PYTHONPATH={tools}
ExecStart=/usr/bin/python3 -m netlab.guest {name} up

[Install]
WantedBy=multi-user.target
"""


def install(host: Host) -> None:
    """Write the unit that takes the role at every boot, and the configuration of l4lb or its agent."""
    _UNIT.write_text(_UNIT_TEXT.format(name=host.name, tools=LAB / "tools"))
    if host.role == "client":
        return
    _CONFIG.mkdir(exist_ok=True)
    shutil.copyfile(LAB / gateway.KEY, _CONFIG / gateway.KEY)
    (_CONFIG / gateway.KEY).chmod(0o600)
    if host.role == "gateway":
        text = gateway.config(load(), _CONFIG / gateway.KEY)
        (_CONFIG / "l4lb.toml").write_text(text)
    else:
        options = f"--listen {host.address(4)}:{gateway.AGENT_PORT}"
        (_CONFIG / "agent.env").write_text(f'L4LB_AGENT_OPTIONS="{options}"\n')


def up(host: Host) -> None:
    """Take the role, and start the servers of a backend."""
    role.take(host, load(), None, _cards(host))
    if host.role == "backend":
        directory = HOME / host.name
        (HOME / "www").mkdir(parents=True, exist_ok=True)
        servers.prepare(host.name, directory, HOME / "www")
        start(host)


def start(host: Host) -> None:
    """Start the servers that do not run."""
    for server in servers.SERVERS:
        if servers.running(None, server, HOME / host.name) is None:
            servers.start(None, server, host.name, HOME / host.name)


def stop(host: Host) -> None:
    """End the servers."""
    inode = namespace_inode(None)
    assert inode is not None
    pids = [servers.running(None, server, HOME / host.name) for server in servers.SERVERS]
    process.end([pid for pid in pids if pid], inode)


def _cards(host: Host) -> dict[str, str]:
    """What the host's interfaces are called here.

    Raises:
        LabError: one does not appear.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        here = {
            (path / "address").read_text().strip(): path.name for path in Path("/sys/class/net").iterdir()
        }
        missing = [card for card in host.interfaces if card.mac not in here]
        if not missing:
            return {card.name: here[card.mac] for card in host.interfaces}
        if time.monotonic() > deadline:
            raise LabError(
                f"no interface has the address {missing[0].mac} of {host.name} {missing[0].name}"
            )
        time.sleep(0.5)


def main(argv: Sequence[str]) -> None:
    """Do what is asked."""
    name, what = argv
    host = load().hosts[name]
    os.umask(0o022)
    {"install": install, "up": up, "start": start, "stop": stop}[what](host)


if __name__ == "__main__":
    find_roots_programs()
    try:
        main(sys.argv[1:])
    except LabError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
