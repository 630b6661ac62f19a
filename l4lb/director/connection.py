"""What the director remembers: hops, paths to backends, connections."""

from __future__ import annotations

from struct import Struct
from typing import Final

from l4lb.director.translate import Rewrite
from l4lb.model import BackendPlan, Endpoint, Nat, Protocol, State
from l4lb.times import Stopwatch

_PORTS: Final = Struct("!HH")


class Hop:
    """A next hop: what the Ethernet header becomes and where the frame leaves.

    Shared by all that goes there. The datapath fills ``header`` (14 bytes) when the neighbour is
    known and empties it when it no longer is, and sets ``stale`` when routes have changed and whoever
    holds the hop must ask for it again; the director only reads.
    """

    __slots__ = ("address", "header", "index", "mtu", "stale")

    def __init__(self, index: int, address: bytes, mtu: int) -> None:
        self.index = index  # of the interface
        self.address = address  # of the neighbour: the gateway's or the destination's own
        self.mtu = mtu  # largest IP packet, bytes
        self.header: bytes | None = None
        self.stale = False


class Path:
    """A service's way to one of its backends: shared rewrites, the next hop, and the counters."""

    __slots__ = (
        "address",
        "alive",
        "asked",
        "backward",
        "bytes_in",
        "bytes_out",
        "closed",
        "confirmed",
        "connections_total",
        "established",
        "forward",
        "half_open",
        "handshakes",
        "hop",
        "nat",
        "outstanding",
        "packets_in",
        "packets_out",
        "protocol",
        "reset_when_down",
        "resets",
        "responses",
        "retransmissions",
        "service",
        "snat",
        "unanswered",
        "usable",
        "vip",
    )

    def __init__(
        self, service: str, vip: Endpoint, protocol: Protocol, nat: Nat, backend: BackendPlan
    ) -> None:
        self.service = service
        self.vip = vip
        self.protocol = protocol
        self.nat = nat
        self.address = backend.address
        self.snat = backend.snat
        self.alive = backend.alive
        self.hop: Hop | None = None  # towards the backend
        self.usable = False  # takes new connections
        self.reset_when_down = True
        self.connections_total = 0
        self.confirmed = 0  # of these: those that were established, or of UDP answered
        self.half_open = 0
        self.established = 0
        self.closed = 0  # of the established: those that both ends have closed
        self.outstanding = 0
        self.asked = 0.0  # of the outstanding: the sum of the times when they asked, seconds
        self.handshakes = Stopwatch()  # from a SYN to its SYN/ACK
        self.responses = Stopwatch()  # from a request's first packet to its answer's
        self.resets = 0  # by the backend
        self.retransmissions = 0  # of SYNs that it has not answered
        self.unanswered = 0  # connections that ended before it said anything
        self.packets_in = 0
        self.packets_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        anyone = Endpoint(bytes(len(vip.ip)), 0)
        self.forward = Rewrite((anyone, vip), (anyone, backend.address))
        self.backward = Rewrite((backend.address, anyone), (vip, anyone))

    @property
    def load(self) -> int:
        """Connections that the backend has now: none that is over and only remembered."""
        return self.half_open + self.established - self.closed

    @property
    def in_flight(self) -> int:
        """Connections that wait for the backend's answer, or will before long: while clients shake hands
        their requests are on the way. A UDP connection is half-open until long after its answer, and counts
        by its questions alone."""
        if self.protocol is Protocol.TCP:
            return self.half_open + self.outstanding
        return self.outstanding

    @property
    def gone(self) -> bool:
        """True if connections of this path are to be reset instead of forwarded."""
        return not self.alive and self.reset_when_down


SHIFT_MASK: Final = 0x0F
BACKEND_SHIFT: Final = 4
LARGEST_SHIFT: Final = 14
"""RFC 7323 2.3."""
UNKNOWN_SHIFTS: Final = LARGEST_SHIFT | LARGEST_SHIFT << BACKEND_SHIFT
"""Of a connection whose handshake was not seen."""


class Connection:
    """One connection: two tuples, who it belongs to, and what was last seen of it.

    A million of these are in memory, so every slot counts: bits share an integer, deltas and
    rewrites are shared through the path.
    """

    __slots__ = (
        "acked_by_backend",
        "acked_by_client",
        "asked",
        "backward",
        "bucket",
        "client_hop",
        "forward",
        "original",
        "path",
        "reply",
        "seen",
        "shifts",
        "state",
        "syn",
    )

    def __init__(
        self,
        original: bytes,
        reply: bytes,
        path: Path,
        forward: Rewrite,
        backward: Rewrite,
        state: State,
        now: float,
    ) -> None:
        self.original = original  # the tuple of the client's packets, as they arrive
        self.reply = reply  # the tuple of the backend's packets, as they arrive
        self.path = path
        self.forward = forward
        self.backward = backward
        self.client_hop: Hop | None = None
        self.state = state
        self.seen = now
        self.acked_by_client: int | None = None  # what the client expects next from the backend
        self.acked_by_backend: int | None = None
        self.asked: float | None = None  # when what waits for the backend began to; see measure.py
        self.shifts = 0  # window scales: the client's in bits 0-3, the backend's in bits 4-7
        self.bucket: set[Connection] | None = None  # of the expiry wheel
        self.syn = 0  # behind a SYN that the client sent on it, until it sends anything else; 0: none


class Ends:
    """The four endpoints of a connection, unpacked from its two tuples: for people and slow paths."""

    __slots__ = ("backend", "client", "source", "vip")

    def __init__(self, original: bytes, reply: bytes) -> None:
        self.client, self.vip = _unpack(original)
        self.backend, self.source = _unpack(reply)


def _unpack(key: bytes) -> tuple[Endpoint, Endpoint]:
    width = (len(key) - 4) // 2
    sport = int.from_bytes(key[-4:-2], "big")
    dport = int.from_bytes(key[-2:], "big")
    return Endpoint(key[:width], sport), Endpoint(key[width : 2 * width], dport)


def tuple_key(source: Endpoint, destination: Endpoint) -> bytes:
    """The tuple of packets from ``source`` to ``destination``, as it lies on the wire."""
    return source.ip + destination.ip + _PORTS.pack(source.port, destination.port)


def make_connection(path: Path, client: Endpoint, source: Endpoint, state: State, now: float) -> Connection:
    """A connection of ``client`` on ``path``, which the backend sees come from ``source``."""
    forward, backward = path.forward, path.backward
    if source is not client and source != client:
        forward = Rewrite((client, path.vip), (source, path.address))
        backward = Rewrite((path.address, source), (path.vip, client))
    original, reply = tuple_key(client, path.vip), tuple_key(path.address, source)
    return Connection(original, reply, path, forward, backward, state, now)
