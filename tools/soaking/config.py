"""What l4lb is told: services that differ in all that matters for counting. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from netlab.gateway import endpoint
from netlab.topology import Topology

PORTS: Final = {"ask": 7000, "greet": 7001, "stream": 7002, "sink": 7003, "udp": 7004}
"""By the sort of server; see servers.py."""

# No connection is remembered for longer than the longest of these, so that none is when it is over.
_GATEWAY: Final = """\
[gateway.timeouts]
established = 4
syn_sent = 2
syn_received = 2
fin_wait = 2
last_ack = 1
time_wait = 1
closed = 1
udp_new = 1
udp = 2
"""
LONGEST_TIMEOUT: Final = 4.0  # seconds

_HEALTH: Final = f"""\
[services.health]
port = {PORTS["ask"]}
interval = 0.3
timeout = 0.5
rise = 1
fall = 2
"""


@dataclass(frozen=True, slots=True)
class Service:
    """One of the services, all different.

    Attributes:
        kind: the sort of its servers.
        port: at the VIP.
        version: of IP.
        settings: more lines of its table.
    """

    name: str
    kind: str
    port: int
    scheduler: str
    version: int = 4
    settings: str = ""

    def at(self, address: str) -> str:
        """Where its servers are on a backend, as the config has it."""
        return endpoint(address, PORTS[self.kind])

    def text(self, vip: str, backends: Sequence[str]) -> str:
        """Its part of the config."""
        tables = "".join(f'[[services.backends]]\naddress = "{self.at(each)}"\n' for each in backends)
        return (
            f'[[services]]\nname = "{self.name}"\naddress = "{endpoint(vip, self.port)}"\n'
            f'protocol = "{"udp" if self.kind == "udp" else "tcp"}"\nscheduler = "{self.scheduler}"\n'
            f"{self.settings}\n{_HEALTH}{tables}"
        )


SERVICES: Final = (
    Service("ask", "ask", 7000, "adaptive"),
    Service("ask-full", "ask", 7100, "least_connection", settings='nat = "full"'),
    Service("ask-affinity", "ask", 7200, "random", settings='affinity = "client"\naffinity_timeout = 2'),
    Service("ask-keep", "ask", 7300, "round_robin", settings='when_backend_down = "keep"'),
    Service("ask6", "ask", 7000, "maglev", version=6),
    Service("greet", "greet", 7001, "least_connection"),
    Service("stream", "stream", 7002, "round_robin"),
    Service("stream6", "stream", 7002, "source_hash", version=6),
    Service("sink", "sink", 7003, "random"),
    Service("sink-full6", "sink", 7103, "adaptive", version=6, settings='nat = "full"'),
    Service("udp", "udp", 7004, "round_robin"),
    Service("udp-full", "udp", 7104, "adaptive", settings='nat = "full"'),
    Service("udp6", "udp", 7004, "maglev", version=6),
)


def config(topology: Topology, datapath: str) -> str:
    """The text of the config file."""
    backends = {version: [host.address(version) for host in topology.backends] for version in (4, 6)}
    services = (each.text(topology.vip(each.version), backends[each.version]) for each in SERVICES)
    return f'[gateway]\ndatapath = "{datapath}"\n{_GATEWAY}' + "".join(services)
