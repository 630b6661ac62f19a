"""The words of l4lb: services, backends, connections' states, verdicts and drop reasons.

Frozen values only, no behaviour beyond construction and printing, no I/O. Everything here may cross
the channel between the control plane and a datapath, and every name is the one used in the config,
the CLI, the logs and the docs.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final


class Protocol(IntEnum):
    """Transport protocols a service can have, by IANA number."""

    TCP = 6
    UDP = 17

    @property
    def label(self) -> str:
        """The name used in the config and on the command line."""
        return self.name.lower()


class Nat(str, Enum):
    """What is translated: the destination only, or source and destination."""

    DESTINATION = "destination"
    FULL = "full"


class WhenAllDown(str, Enum):
    """What a new connection meets when every backend of its service is down."""

    REFUSE = "refuse"  # RST for TCP, ICMP port unreachable for UDP
    USE_ALL = "use_all"  # choose as if all were up: the checks may be what is wrong


class WhenBackendDown(str, Enum):
    """What happens to the connections of a backend that goes down."""

    RESET = "reset"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An IP address in network byte order (4 or 16 bytes) and a port (0-65535)."""

    ip: bytes
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``10.0.0.1:80`` or ``[2001:db8::1]:80``.

        Raises:
            ValueError: with one line that says what is wrong with the text.
        """
        host, colon, port_text = text.rpartition(":")
        if not colon:
            raise ValueError(f"'{text}' has no port: write ADDRESS:PORT")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            version = 6
        else:
            if ":" in host:
                raise ValueError(f"'{text}': an IPv6 address is written in brackets, [ADDRESS]:PORT")
            version = 4
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"'{host}' is not an IP address") from None
        if address.version != version or "%" in host:
            raise ValueError(f"'{text}' is not an address l4lb can use: write IPV4:PORT or [IPV6]:PORT")
        digits = (
            port_text.isascii() and port_text.isdigit() and len(port_text) < 10
        )  # int() refuses thousands
        if not digits or not 1 <= int(port_text) <= 65535:
            raise ValueError(f"'{port_text}' is not a port (1-65535)")
        return cls(address.packed, int(port_text))

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.ip) == 4 else 6

    @property
    def host(self) -> str:
        """The address alone, as text."""
        return str(ipaddress.ip_address(self.ip))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if len(self.ip) == 4 else f"[{self.host}]:{self.port}"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How the backends of a service are checked. Times in seconds."""

    check: str = "tcp"  # tcp | http | agent | none
    interval: float = 2.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    port: int | None = None  # None is the backend's own port; a UDP service needs one to be checked
    path: str = "/"  # http: the request target
    host: str | None = None  # http: the Host header; None is the backend's own address
    status: tuple[tuple[int, int], ...] = ((200, 399),)  # http: inclusive ranges that count as healthy


@dataclass(frozen=True, slots=True)
class AgentCheck:
    """How the agents of a service's backends are asked. Times in seconds."""

    port: int  # of every backend
    protocol: str = "udp"  # udp: l4lb's own | tcp: the line of HAProxy's agent-check
    key: str | None = None  # the file with the key; udp needs one
    interval: float = 2.0
    timeout: float = 1.0
    cpu_limit: float = 0.9  # busy share of the CPUs, 0..1, above which a backend is hot
    memory_limit: float = 0.9  # used share of the memory, 0..1, likewise


@dataclass(frozen=True, slots=True)
class Backend:
    """One server of a service. Weight 0 drains: no new connections, old ones finish."""

    address: Endpoint
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Service:
    """A VIP, port and protocol, and the backends that stand behind it."""

    name: str
    address: Endpoint
    protocol: Protocol = Protocol.TCP
    scheduler: str = "round_robin"
    nat: Nat = Nat.DESTINATION
    affinity: str = "none"  # none | client
    affinity_timeout: float = 300.0  # seconds after the client's last connection began
    when_all_down: WhenAllDown = WhenAllDown.REFUSE
    when_backend_down: WhenBackendDown = WhenBackendDown.RESET
    health: HealthCheck = field(default_factory=HealthCheck)
    agent: AgentCheck | None = None  # None: the backends have none
    backends: tuple[Backend, ...] = ()


BackendKey = tuple[str, Endpoint]
"""One backend of one service: the service's name and the backend's address. The same server may stand
behind two services and be up for one of them only."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Idle seconds after which a connection in each state is forgotten.

    Established TCP: at least 2 h 4 min (RFC 5382 REQ-5). The transitory states stay at or above
    the four minutes of RFC 5382 only where forgetting early could hurt; the others follow
    ``nf_conntrack_proto_tcp.c``. A UDP stream: RFC 4787 REQ-5. One that has not become one yet:
    ``nf_conntrack_proto_udp.c`` of those without an answer, shorter than the two minutes that REQ-5 asks
    for where the server's port is above 1023, as forged packets get that far.
    """

    syn_sent: float = 60.0
    syn_received: float = 60.0
    established: float = 7440.0
    fin_wait: float = 240.0  # one side has closed, the other may go on sending
    last_ack: float = 60.0
    time_wait: float = 60.0
    closed: float = 10.0
    udp_new: float = 30.0  # until the client goes on after an answer
    udp: float = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the connection table holds. A limit reached refuses by reason; it never evicts
    an established connection."""

    half_open: int = 65_536
    established: int = 1_000_000
    affinity: int = 262_144  # clients of all services together, for IPv4 and for IPv6
    fragments: int = 4_096


@dataclass(frozen=True, slots=True)
class Probes:
    """What probes for measurements may cost all backends together, in packets of both directions."""

    enabled: bool = True
    share: float = 0.001  # probe packets for each packet forwarded
    floor: float = 1.0  # packets a second that idle backends are looked after with
    ceiling: float = 1000.0  # packets a second, whatever is forwarded
    burst: float = 24.0  # packets that may come at once: two HTTP probes or eight SYN probes


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where Prometheus finds the metrics."""

    enabled: bool = True
    address: Endpoint = Endpoint(b"\x7f\0\0\1", 9717)


class State(IntEnum):
    """State of a tracked connection; one timeout each (see ``Timeouts`` and director/states.py)."""

    SYN_SENT = 0
    SYN_RECEIVED = 1
    ESTABLISHED = 2
    CLIENT_FIN = 3  # only the client has sent FIN
    BACKEND_FIN = 4  # only the backend has
    LAST_ACK = 5  # both have, the last ACK is to come
    TIME_WAIT = 6
    CLOSED = 7  # an acceptable RST was seen
    UDP_NEW = 8  # no answer seen yet
    UDP = 9  # the client has gone on after an answer
    UDP_ANSWERED = 10  # by the backend; a question and its answer may have been all

    @property
    def label(self) -> str:
        """The name shown to people."""
        return self.name.lower()


class Verdict(IntEnum):
    """What becomes of a packet that a datapath looked at."""

    PASS = 0  # not ours: the kernel's, untouched
    FORWARD = 1  # translated, goes to the next hop
    REPLY = 2  # answered by the gateway itself (RST, ICMP error)
    DROP = 3
    HOLD = 4  # waits, for its first fragment


class DropReason(IntEnum):
    """Why a packet was not forwarded. Numbers are stable: eBPF counts by them."""

    TRUNCATED = 1  # a length field reaches beyond the frame
    BAD_IP_HEADER = 2
    BAD_TCP_HEADER = 3
    BAD_UDP_HEADER = 4
    BAD_ICMP_HEADER = 5
    BAD_EXTENSION_HEADERS = 6
    TTL_EXCEEDED = 7
    TOO_BIG = 8  # larger than the path MTU; the sender is told
    NO_CONNECTION = 9  # mid-stream packet of a connection nobody knows
    BAD_TCP_FLAGS = 10  # no connection begins with these flags
    NO_BACKEND = 11  # every backend is down, drained or absent
    BACKEND_DOWN = 12  # the connection's backend went down
    HALF_OPEN_FULL = 13
    ESTABLISHED_FULL = 14
    NO_FREE_PORT = 15  # full NAT: the port range towards this backend is used up
    NO_ROUTE = 16
    NEIGHBOUR_UNREACHABLE = 17
    NEIGHBOUR_QUEUE_FULL = 18
    FRAGMENT_UNKNOWN = 19  # a later fragment whose first one was never seen
    FRAGMENTS_FULL = 20
    ICMP_UNMATCHED = 21  # an ICMP error that quotes no known connection
    HALF_OPEN_EVICTED = 22  # counted on the connection pushed out, not on the packet that did it
    SEND_FAILED = 23  # the interface refused the frame
    RATE_LIMITED = 24  # our own ICMP errors and RSTs are limited
    RECEIVE_OVERRUN = 25  # the kernel dropped it before us: our socket's queue was full
    INTERNAL = 26  # a bug in l4lb; logged with its traceback
    UNREADABLE = 27  # offloaded in a way that a packet socket cannot show (old UFO frames)

    @property
    def label(self) -> str:
        """The name shown to people and used in metrics."""
        return self.name.lower()


class Key(IntEnum):
    """What picks the slot of a selection table."""

    TURN = 0  # a counter that goes up by one for each new connection
    RANDOM = 1
    SOURCE = 2  # hash of the client's address
    FLOW = 3  # hash of the connection's original tuple


@dataclass(frozen=True, slots=True)
class Table:
    """A selection a datapath runs without Python: slot -> index into the service's backends.

    An empty table means that no backend can take a connection.
    """

    key: Key
    slots: tuple[int, ...]

    @property
    def consistent(self) -> bool:
        """True if the same packet finds the same backend without the connection table, so that a
        connection can be picked up mid-stream."""
        return self.key in (Key.SOURCE, Key.FLOW)

    @property
    def chosen(self) -> frozenset[int]:
        """Indices of the backends that take new connections."""
        return frozenset(self.slots)


WHOLE: Final = 256
"""What a request in flight counts in ``Costs``, where idle connections may count less."""

MAX_WEIGHT: Final = 65_535
"""Of a backend: what schedulers are made for."""

MAX_COST: Final = (1 << 31) - 1
"""Of ``Costs``: a datapath keeps the bit above it for who is hot."""


@dataclass(frozen=True, slots=True)
class Costs:
    """A selection a datapath runs without Python: the least price among candidates, where

        price = cost x (WHOLE x (in flight + 1) + idle x idle connections)

    *In flight* are connections whose handshake is under way, as their first request is about to come, and
    those on which the client has sent data that the backend has not yet begun to answer (*outstanding*);
    idle are the others, of UDP those without an open question. The counters are those of the moment.

    Attributes:
        costs: pairs of an index into the service's backends and a cost, 1 to MAX_COST. Only how they
            compare counts.
        candidates: so many are drawn at random and compared, and on a tie the one drawn first wins; 0
            compares all, and equals take turns.
        idle: what an idle connection counts, 0 to WHOLE. WHOLE is least connection.
        hot: indices of backends that are chosen only if all candidates are hot.
    """

    costs: tuple[tuple[int, int], ...]
    candidates: int = 0
    idle: int = WHOLE
    hot: frozenset[int] = frozenset()

    @property
    def consistent(self) -> bool:
        """Always False: the choice depends on the moment."""
        return False

    @property
    def chosen(self) -> frozenset[int]:
        """Indices of the backends that take new connections."""
        return frozenset(index for index, _ in self.costs)


Selection = Table | Costs


@dataclass(frozen=True, slots=True)
class BackendPlan:
    """What a datapath has to know of one backend."""

    address: Endpoint
    alive: bool = True  # False: down; its connections meet the service's when_backend_down
    snat: bytes | None = None  # full NAT: the gateway's address that this backend sees


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What a datapath has to know of one service: everything decided, nothing to compile.

    Backends are matched with those of the plan before by address, so indices may change freely.
    """

    name: str
    address: Endpoint
    protocol: Protocol
    selection: Selection
    backends: tuple[BackendPlan, ...]
    nat: Nat = Nat.DESTINATION
    affinity_timeout: float = 0.0  # seconds; 0: no affinity
    when_backend_down: WhenBackendDown = WhenBackendDown.RESET


SNAT_PORTS: Final = (10_240, 32_767)
"""Default port range of full NAT: below Linux's ephemeral ports (32768-60999)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a datapath should be doing. Applying the same plan twice changes nothing."""

    services: tuple[ServicePlan, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    snat_ports: tuple[int, int] = SNAT_PORTS


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a datapath knows of a client of one service, which goes before the selection.

    Attributes:
        connection: the backend of the connection from the client's very port, if its next packet, be it a
            SYN, goes on with that one.
        last: the backend of its last connection, if affinity sends the next one there,
        left: and for how many seconds from now it does.
    """

    connection: Endpoint | None = None
    last: Endpoint | None = None
    left: float = 0.0


@dataclass(frozen=True, slots=True)
class Times:
    """Times taken since the datapath started; see l4lb/times.py for the buckets."""

    count: int = 0
    total: float = 0.0  # seconds
    average: float = 0.0  # seconds, moving: the last eight or so
    buckets: tuple[int, ...] = ()  # empty while there are none


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of one backend of one service: counters since the datapath started, and what it is doing now."""

    connections_total: int = 0
    half_open: int = 0
    established: int = 0  # without those that both ends have closed, which are only remembered
    packets_in: int = 0  # client -> backend
    packets_out: int = 0  # backend -> client
    bytes_in: int = 0  # IP bytes
    bytes_out: int = 0
    outstanding: int = 0  # connections with data of the client that the backend has not begun to answer
    waiting: float = 0.0  # seconds that these have waited by now, together
    resets: int = 0  # by the backend, of connections that not both ends had closed
    retransmissions: int = 0  # SYNs sent again, as the backend did not answer
    unanswered: int = 0  # connections that ended without a word of the backend
    handshakes: Times = field(default_factory=Times)  # SYN to SYN/ACK
    responses: Times = field(default_factory=Times)  # a request's first packet to its answer's
    confirmed: int = 0  # connections that were established, or of UDP answered


@dataclass(frozen=True, slots=True)
class Load:
    """How one backend of one service is doing: what ``Traffic`` has of that, cheap to ask for often."""

    half_open: int = 0
    established: int = 0
    outstanding: int = 0
    waiting: float = 0.0  # seconds that the outstanding have waited by now, together
    answers: int = 0  # since the datapath started
    answer_time: float = 0.0  # seconds that these took, together
    confirmed: int = 0  # connections that were established, or of UDP answered: not by forged SYNs alone
    resets: int = 0
    retransmissions: int = 0  # of SYNs that it has not answered
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """A snapshot of a datapath: per (service name, backend), per verdict, per drop reason."""

    backends: dict[BackendKey, Traffic]
    verdicts: dict[Verdict, int]
    drops: dict[DropReason, int]
    half_open: int = 0
    established: int = 0
    remembered: int = 0  # that both ends have closed, and that take room still
    room: int = 0  # for established ones and those; 0: as ``Limits`` says


class Rule(IntEnum):
    """What gave a new connection its backend; the first four are those of ``Key``."""

    TURN = 0
    RANDOM = 1
    SOURCE = 2
    FLOW = 3
    COSTS = 4
    AFFINITY = 5  # the client was remembered

    @property
    def label(self) -> str:
        """The name shown to people."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a backend would have cost a connection, by ``Costs``, when it was looked at."""

    backend: Endpoint
    hot: bool
    price: int
    cost: int
    in_flight: int
    idle: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice that was really made. Offers are those of a choice by costs."""

    at: float  # seconds, CLOCK_MONOTONIC
    service: str
    client: Endpoint
    backend: Endpoint
    rule: Rule
    compared: int = 0  # backends
    best: Offer | None = None  # the chosen one's
    runner_up: Offer | None = None


DECISIONS_KEPT: Final = 512
DECISIONS_APART: Final = 0.1
"""Seconds. A datapath keeps the last so many decisions, of each service at most one in that time: what a
busy service decides is alike from one connection to the next, and must not push out a quiet one's."""


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One connection as shown by ``l4lb connection list``."""

    service: str
    protocol: Protocol
    client: Endpoint
    vip: Endpoint
    source: Endpoint  # what the backend sees: the client itself, or the SNAT address and port
    backend: Endpoint
    state: State
    idle: float  # seconds since the last packet
    expires: float  # seconds until forgotten if no packet comes
