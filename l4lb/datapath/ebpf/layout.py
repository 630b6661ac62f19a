"""What is in the maps, as Python reads and writes it: ``datapath/bpf/layout.h`` field by field.

Numbers are in host byte order, addresses and ports are bytes as they are on the wire; a ``hop`` is the
programs' own and is only carried along. Each struct is a named tuple and a ``Layout``; of a million
entries one reads ``LAYOUT.struct.iter_unpack`` and no tuple more than needed.
"""

from __future__ import annotations

import sys
from struct import Struct
from typing import Any, Final, Generic, NamedTuple, TypeVar

from l4lb.model import DropReason, State, Verdict
from l4lb.times import BUCKETS

LAYOUT_VERSION: Final = 10

_Value = TypeVar("_Value", bound=tuple[object, ...])


class Layout(Generic[_Value]):
    """The bytes of a C struct.

    Attributes:
        name: of the C struct.
        fields: name of each field, and its code in the language of the module struct; names that
            begin with "reserved" are padding.
    """

    def __init__(self, name: str, kind: type[_Value], /, **fields: str) -> None:
        self.name = name
        self.fields = fields
        self.struct = Struct("=" + "".join(fields.values()))
        self.size = self.struct.size
        self._kind = kind

    def pack(self, value: _Value) -> bytes:
        """The bytes of ``value``."""
        return self.struct.pack(*value)

    def unpack(self, data: bytes) -> _Value:
        """The value of exactly ``size`` bytes.

        Raises:
            struct.error: there are more or less.
        """
        return self._kind(*self.struct.unpack(data))


END_SIZE: Final = 20
"""Of a ``struct end``: what is a key under IPv6."""

KEY4_SIZE: Final = 8
"""Of its last bytes, which are a key under IPv4."""


def word(number: int) -> bytes:
    """A __u32: the key of every array, and a path in a selection."""
    return number.to_bytes(4, sys.byteorder)


def end_key(ip: bytes, port: int, number: int) -> bytes:
    """A ``struct end`` as the key of a hash: 8 bytes under IPv4, 20 under IPv6."""
    return ip + port.to_bytes(2, "big") + number.to_bytes(2, sys.byteorder)


def read_end(key: bytes) -> tuple[bytes, int, int]:
    """Address, port and number of a key."""
    return key[:-4], int.from_bytes(key[-4:-2], "big"), int.from_bytes(key[-2:], sys.byteorder)


def wide(ip: bytes) -> bytes:
    """An address as ``__be32[4]``: one of IPv4 in the last word."""
    return ip.rjust(16, b"\0")


def narrow(words: bytes, version: int) -> bytes:
    """The address in a ``__be32[4]``."""
    return words[12:] if version == 4 else words


def wide_end(key: bytes) -> bytes:
    """A key as ``struct end`` in a value."""
    return key.rjust(END_SIZE, b"\0")


def narrow_end(end: bytes, version: int) -> bytes:
    """The key that a ``struct end`` is."""
    return end[END_SIZE - KEY4_SIZE :] if version == 4 else end


def version_of(key: bytes) -> int:
    """Of IP."""
    return 4 if len(key) == KEY4_SIZE else 6


HOP_SIZE: Final = 28
HOP_PEER: Final = 1
HOP_XDP: Final = 2
NO_HOP: Final = bytes(HOP_SIZE)


class Interface(NamedTuple):
    """A value of interfaces, by index: of those that have Ethernet addresses."""

    flags: int  # HOP_*
    mac: bytes


INTERFACE: Final = Layout("interface", Interface, flags="I", mac="6s", reserved="2x")


class Connection(NamedTuple):
    """A value of connections6 and half_open*, and a slot of connections4; its key is the client's end with
    the service's number."""

    seen: int  # ns
    asked: int = 0  # TIME_UNITs; 0: nothing waits for the backend
    acked_by_client: int = 0
    acked_by_backend: int = 0
    path: int = 0
    source_port: bytes = bytes(2)
    state: int = 0
    shifts: int = 0
    flags: int = 0
    displaced: int = 0  # not of this connection: see ``struct slots``
    hop: bytes = NO_HOP


CONNECTION: Final = Layout(
    "connection",
    Connection,
    seen="Q",
    asked="I",
    acked_by_client="I",
    acked_by_backend="I",
    path="H",
    source_port="2s",
    state="B",
    shifts="B",
    flags="B",
    displaced="B",
    hop=f"{HOP_SIZE}s",
)

SEEN_BY_CLIENT: Final = 1
SEEN_BY_BACKEND: Final = 2
REVERSED: Final = 4
OTHER_SOURCE: Final = 8
RESTED: Final = 16


SLOT_SIZE: Final = 8 + CONNECTION.size
SLOT_TAKEN: Final = 1 << 63
TABLE_STEPS: Final = 32
"""Of connections4, see ``established.py``."""

BLOCK_PAIRS: Final = 64
"""Pairs of connections4 for each entry of blocks."""

MOST_COSTS: Final = 1_024
"""Of select.h: backends that are compared for one connection."""

FEWEST_ENDS: Final = 1 << 10
MOST_ENDS: Final = 1 << 19
END_PROBES: Final = 16
END_MULTIPLIER: Final = 0x9E37_79B9_7F4A_7C15
END_BITS: Final = 49
END_PROTOCOL: Final = 1
END_FACTOR: Final = 0x1_3C6E_F372_FE95
END_KIND: Final = 3
END_SERVICE: Final = 1
END_BACKEND: Final = 2
END_REMOVED: Final = 3
END_IPV6: Final = 4
END_NUMBER: Final = 3
END_STEP: Final = 1 << 19
END_REST: Final = 23
"""Of the values of ends, see ``ends.py``."""


class Service(NamedTuple):
    """A value of services, by number."""

    end: bytes  # the VIP with the protocol's number: see ``wide_end``
    version: int
    kind: int
    flags: int
    number: int
    affinity: int = 0  # seconds
    candidates: int = 0
    idle: int = 0  # of WHOLE


SERVICE: Final = Layout(
    "service",
    Service,
    end="20s",
    version="B",
    kind="B",
    flags="B",
    reserved="x",
    number="I",
    affinity="I",
    candidates="H",
    idle="H",
)

KIND_TURN, KIND_RANDOM, KIND_SOURCE, KIND_FLOW, KIND_COSTS = range(5)
"""``enum selection_kind``; the first four in the order of ``l4lb.model.Key``."""

SERVICE_FULL_NAT: Final = 1


class Backend(NamedTuple):
    """A value of backends, by number."""

    end: bytes  # with the protocol's number: see ``wide_end``
    version: int
    flags: int
    number: int
    service: int
    path: int


BACKEND: Final = Layout(
    "backend",
    Backend,
    end="20s",
    version="B",
    flags="B",
    number="H",
    service="H",
    reserved="2x",
    path="I",
)

BACKEND_SHARED: Final = 1


class Path(NamedTuple):
    """A value of paths, by number: a service's way to one of its backends."""

    hop: bytes
    address: bytes  # 16 bytes: see ``wide``
    vip: bytes
    snat: bytes
    port: bytes
    vip_port: bytes
    backend: int
    service: int
    protocol: int
    version: int
    flags: int


PATH: Final = Layout(
    "path",
    Path,
    hop=f"{HOP_SIZE}s",
    address="16s",
    vip="16s",
    snat="16s",
    port="2s",
    vip_port="2s",
    backend="H",
    service="H",
    protocol="B",
    version="B",
    flags="B",
    reserved="5x",
)

PATH_ALIVE: Final = 1
PATH_GONE: Final = 2
PATH_USABLE: Final = 4
PATH_FULL_NAT: Final = 8
PATH_RETIRED: Final = 16


class Affinity(NamedTuple):
    """A value of affinities* and newcomers*, whose key is the client without a port."""

    until: int  # ns
    path: int


AFFINITY: Final = Layout("affinity", Affinity, until="Q", path="I", reserved="4x")


class Load(NamedTuple):
    """A value of loads, by path."""

    half_open: int
    established: int
    outstanding: int = 0
    requests: int = 0  # that ever were outstanding, modulo 2^32
    asked: int = 0  # TIME_UNITs
    answers: int = 0
    answered: int = 0  # TIME_UNITs
    connections: int = 0
    confirmed: int = 0
    resets: int = 0
    retransmissions: int = 0
    unanswered: int = 0


LOAD: Final = Layout(
    "load",
    Load,
    half_open="I",
    established="I",
    outstanding="I",
    requests="I",
    asked="Q",
    answers="Q",
    answered="Q",
    connections="Q",
    confirmed="Q",
    resets="Q",
    retransmissions="Q",
    unanswered="Q",
)

HOT: Final = 0x8000_0000
"""In a value of costs."""


class Traffic(NamedTuple):
    """A value of traffic, by path and CPU."""

    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int


TRAFFIC: Final = Layout(
    "traffic",
    Traffic,
    packets_in="Q",
    packets_out="Q",
    bytes_in="Q",
    bytes_out="Q",
)

TIME_SHIFT: Final = 12
"""A TIME_UNIT is 2**12 ns, ``l4lb.times.UNIT``."""

TIMES: Final = Struct(f"=QQI4x{BUCKETS}I")
"""struct times: count, total, average8, buckets."""


class Measured(NamedTuple):
    """A value of measured, by path: two TIMES."""

    handshakes: bytes
    responses: bytes


MEASURED: Final = Layout("measured", Measured, handshakes=f"{TIMES.size}s", responses=f"{TIMES.size}s")


class Settings(NamedTuple):
    """The only value of settings; ``timeouts`` are one __u64 in ns for each ``State``."""

    timeouts: bytes
    clock: int
    seed: int
    generation: int
    established: int
    pairs: int
    first_port: int
    last_port: int
    ends: int


SETTINGS: Final = Layout(
    "settings",
    Settings,
    timeouts=f"{8 * len(State)}s",
    clock="Q",
    seed="Q",
    generation="I",
    established="I",
    pairs="I",
    first_port="H",
    last_port="H",
    ends="I",
    reserved="4x",
)

TIMEOUTS: Final = Struct(f"={len(State)}Q")
"""Of ``Settings.timeouts``."""


class Totals(NamedTuple):
    """The only value of totals."""

    established: int
    half_open: int
    decisions: int = 0


TOTALS: Final = Layout("totals", Totals, established="I", half_open="I", decisions="I")


class Offer(NamedTuple):
    """``l4lb.model.Offer``."""

    price: int  # with HOT_PRICE if it was hot
    path: int
    cost: int
    in_flight: int
    idle: int


OFFER: Final = Layout("offer", Offer, price="Q", path="I", cost="I", in_flight="I", idle="I")
NO_PATH: Final = 0xFFFF_FFFF
HOT_PRICE: Final = 1 << 63


class Decision(NamedTuple):
    """A value of decisions."""

    number: int  # 0: not whole, or none yet
    when: int  # ns
    client: bytes  # with the service's number: see ``wide_end``
    compared: int
    rule: int
    version: int
    best: bytes  # OFFER
    next: bytes  # OFFER


DECISION: Final = Layout(
    "decision",
    Decision,
    number="Q",
    when="Q",
    client=f"{END_SIZE}s",
    compared="H",
    rule="B",
    version="B",
    best=f"{OFFER.size}s",
    next=f"{OFFER.size}s",
)

COUNT: Final = Struct("=Q")
"""A value of drops and of verdicts, by CPU."""

REASONS: Final = 1 + max(DropReason)
VERDICTS: Final = len(Verdict)

LAYOUTS: Final[tuple[Layout[Any], ...]] = (
    INTERFACE,
    CONNECTION,
    SERVICE,
    BACKEND,
    PATH,
    AFFINITY,
    LOAD,
    TRAFFIC,
    SETTINGS,
    TOTALS,
    MEASURED,
    OFFER,
    DECISION,
)
