"""A director in a small network that exists only here.

    clients 10.1.0.0/16, 2001:db8:1::/48 ── [1] gateway [2] ── backends 10.2.0.0/16, 2001:db8:2::/48

Nothing else has a route. VIPs are 10.1.0.100 and 2001:db8:1::100; under full NAT the backends see
10.2.0.1 and 2001:db8:2::1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from l4lb.director.connection import Connection, Hop
from l4lb.director.director import Director
from l4lb.model import (
    BackendPlan,
    Endpoint,
    Key,
    Limits,
    Nat,
    Plan,
    Protocol,
    Selection,
    ServicePlan,
    Table,
    Timeouts,
    Verdict,
)
from tests.unit.director.packets import ACK, SYN, Seen, Sent, read

START = 1000.0
CLIENT_ISN, BACKEND_ISN = 1_000, 5_000_000
CLIENTS, BACKENDS = 1, 2

VIP = Endpoint.parse("10.1.0.100:80")
VIP6 = Endpoint.parse("[2001:db8:1::100]:80")
CLIENT = Endpoint.parse("10.1.0.7:40000")
CLIENT6 = Endpoint.parse("[2001:db8:1::7]:40000")
BACKEND = Endpoint.parse("10.2.0.11:8080")
BACKEND6 = Endpoint.parse("[2001:db8:2::11]:8080")
OTHER = Endpoint.parse("10.2.0.12:8080")
OTHER6 = Endpoint.parse("[2001:db8:2::12]:8080")
SNAT = Endpoint.parse("10.2.0.1:1").ip
SNAT6 = Endpoint.parse("[2001:db8:2::1]:1").ip

_NETWORKS = {
    Endpoint.parse("10.1.0.0:1").ip[:2]: CLIENTS,
    Endpoint.parse("10.2.0.0:1").ip[:2]: BACKENDS,
    Endpoint.parse("[2001:db8:1::]:1").ip[:6]: CLIENTS,
    Endpoint.parse("[2001:db8:2::]:1").ip[:6]: BACKENDS,
}


def service(
    *backends: Endpoint,
    name: str = "web",
    vip: Endpoint | None = None,
    protocol: Protocol = Protocol.TCP,
    selection: Selection | None = None,
    nat: Nat = Nat.DESTINATION,
    down: Iterable[Endpoint] = (),
    **more: object,
) -> ServicePlan:
    """A service with these backends, taken in turn unless told otherwise; those ``down`` get no new
    connections."""
    backends = backends or (BACKEND,)
    six = backends[0].version == 6
    snat = (SNAT6 if six else SNAT) if nat is Nat.FULL else None
    down = frozenset(down)
    if selection is None:
        slots = tuple(index for index, backend in enumerate(backends) if backend not in down)
        selection = Table(Key.TURN, slots)
    return ServicePlan(
        name,
        vip or (VIP6 if six else VIP),
        protocol,
        selection,
        tuple(BackendPlan(backend, alive=backend not in down, snat=snat) for backend in backends),
        nat,
        **more,  # type: ignore[arg-type]
    )


class Gateway:
    """A director, its clock, and what it has put out."""

    def __init__(
        self,
        *services: ServicePlan,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        snat_ports: tuple[int, int] = (20_000, 29_999),
        mtu: int = 1500,
    ) -> None:
        self.now = START
        self.hops = {
            (index, version): self._hop(index, version, mtu)
            for index in (CLIENTS, BACKENDS)
            for version in (4, 6)
        }
        self.director = Director(START, self.route, Random(1))
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.snat_ports = snat_ports
        self.configure(*services)

    @staticmethod
    def header(index: int, version: int) -> bytes:
        """The Ethernet header of what leaves by an interface."""
        macs = bytes([2, 0, 0, 0, index, 1, 2, 0, 0, 0, index, 2])
        return macs + (b"\x08\x00" if version == 4 else b"\x86\xdd")

    def _hop(self, index: int, version: int, mtu: int) -> Hop:
        hop = Hop(index, bytes([10, index, 0, 254]), mtu)
        hop.header = self.header(index, version)
        return hop

    def route(self, address: bytes) -> Hop | None:
        four = len(address) == 4
        index = _NETWORKS.get(address[:2] if four else address[:6])
        return None if index is None else self.hops[index, 4 if four else 6]

    def configure(self, *services: ServicePlan) -> None:
        """Follow a plan with these services."""
        self.director.configure(Plan(services, self.timeouts, self.limits, self.snat_ports))

    def process(self, frame: bytearray) -> Verdict:
        """Give a frame to the director; what it puts out stays in ``director.out``."""
        return self.director.process(frame, len(frame), self.now)

    def send(self, packet: Sent | bytearray) -> Verdict:
        """Process a packet after throwing away what was put out before."""
        self.director.out.clear()
        return self.process(packet.frame() if isinstance(packet, Sent) else packet)

    @property
    def seen(self) -> list[tuple[int, Seen]]:
        """What was put out since the last ``send``: (interface, packet)."""
        return [(hop.index, read(frame, end)) for hop, frame, end in self.director.out if hop is not None]

    def forwarded(self, packet: Sent | bytearray) -> Seen:
        """Send a packet that must come out as exactly one, with right checksums."""
        assert self.send(packet) is Verdict.FORWARD, self.director.drops
        ((_, seen),) = self.seen
        assert seen.right
        return seen

    def open(self, client: Endpoint = CLIENT, vip: Endpoint | None = None) -> tuple[Sent, Sent]:
        """Establish a TCP connection: the next segment of the client, and of the backend."""
        vip = vip or (VIP if client.version == 4 else VIP6)
        syn = Sent(client, vip, sequence=CLIENT_ISN)
        reached = self.forwarded(syn)
        theirs = Sent(reached.destination, reached.source, sequence=BACKEND_ISN, flags=SYN | ACK)
        self.forwarded(replace(theirs, acknowledgement=CLIENT_ISN + 1))
        ours = {"flags": ACK, "sequence": CLIENT_ISN + 1, "acknowledgement": BACKEND_ISN + 1}
        self.forwarded(replace(syn, **ours))
        back = {"flags": ACK, "sequence": BACKEND_ISN + 1, "acknowledgement": CLIENT_ISN + 1}
        return replace(syn, **ours), replace(theirs, **back)

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, then do the housekeeping."""
        self.director.out.clear()
        self.now += seconds
        self.director.tick(self.now)

    def run_out(self, seconds: float) -> None:
        """Let time pass and tick until nothing more expires."""
        self.tick(seconds)
        for _ in range(20 + len(self.director.table) // 1000):
            self.tick()

    def connection(self, of: Sent | None = None) -> Connection:
        """The connection that a packet belongs to, or the only one there is."""
        if of is not None:
            return self.director.table.by_protocol[of.protocol][of.key]
        (connection,) = self.director.table
        return connection
