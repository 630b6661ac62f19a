"""What l4lb does on the lab's gateway: its config, the same in both labs."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from netlab.servers import UDP_ECHO_PORT
from netlab.topology import Topology

KEY: Final = "agents.key"
AGENT_PORT: Final = 7077
WEB_PORT: Final = 80
_HEALTH_PORT: Final = 8080

_SERVICE: Final = """
[[services]]
name = "{name}"
address = "{address}"
{settings}
"""
_HTTP: Final = """\
[services.health]
check = "http"
port = {port}
interval = 1.0"""
# One who answers for the whole host, so both services ask at the same address.
_AGENT: Final = """\
[services.agent]
port = {port}
key = "{key}"
"""


def config(topology: Topology, key: Path) -> str:
    """The config: HTTP on both IP versions, and the UDP echo.

    Args:
        topology: whose VIPs and backends.
        key: where the key of the agents is on the gateway.
    """
    http = _HTTP.format(port=_HEALTH_PORT)
    agent = _AGENT.format(port=AGENT_PORT, key=key)
    services = (
        ("web", 4, WEB_PORT, f'scheduler = "adaptive"\n\n{http}\n\n{agent}'),
        ("web6", 6, WEB_PORT, f"\n{http}\n"),
        ("echo", 4, UDP_ECHO_PORT, 'protocol = "udp"\n'),
    )
    text = '# The lab\'s gateway, from tools/lab.json.\n\n[gateway]\ndatapath = "auto"\n'
    for name, version, port, settings in services:
        text += _SERVICE.format(name=name, address=endpoint(topology.vip(version), port), settings=settings)
        for host in topology.backends:
            text += f'[[services.backends]]\naddress = "{endpoint(host.address(version), port)}"\n\n'
    return text.rstrip("\n") + "\n"


def write_key(file: Path) -> None:
    """Make the key that l4lb and its agents share, anew."""
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32) + "\n")


def endpoint(address: str, port: int) -> str:
    """An address and a port as the config has them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
