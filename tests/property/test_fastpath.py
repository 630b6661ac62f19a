"""The fast path does exactly what the clear way does, and leaves alone what is not for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from l4lb.director.connection import Connection
from l4lb.model import Endpoint
from tests.property.effort import examples, weighted
from tests.property.moves import Handshake, Pause, Reconfigure, flags, numbers, runs
from tests.property.traffic import BACKENDS, MTU, Run
from tests.unit.director.gateway import VIP, VIP6
from tests.unit.director.packets import ACK, PSH, TCP, UDP, Sent

# What a connection remembers, but for objects that two directors cannot share.
_FIELDS = ("reply", "state", "seen", "asked", "acked_by_client", "acked_by_backend", "shifts")
_COUNTS = (
    "connections_total",
    "half_open",
    "established",
    "closed",
    "packets_in",
    "packets_out",
    "bytes_in",
    "bytes_out",
    "outstanding",
    "asked",
    "resets",
    "retransmissions",
    "unanswered",
)
_MEASURED = ("handshakes", "responses")


def remembered(run: Run) -> dict[tuple[int, bytes], object]:
    def fields(connection: Connection) -> tuple[object, ...]:
        return (connection.path.address, *(getattr(connection, name) for name in _FIELDS))

    return {(c.path.protocol, c.original): fields(c) for c in run.director.table}


def counted(run: Run) -> list[object]:
    paths = run.director.services.paths()
    return [
        (
            path.service,
            path.address,
            *(getattr(path, name) for name in _COUNTS),
            *(getattr(path, name).read() for name in _MEASURED),
        )
        for path in paths
    ]


def follow(fast: Run, clear: Run, moves: list[Callable[[Run], None]]) -> None:
    """The same moves on both sides, with the same results."""
    for move in moves:
        for run in (fast, clear):
            run.out.clear()
            move(run)
        assert fast.out == clear.out
        assert remembered(fast) == remembered(clear)
        assert counted(fast) == counted(clear)
        assert +fast.director.drops == +clear.director.drops


@examples(60)
@given(runs)
def test_with_and_without_the_fast_path_everything_is_the_same(moves):
    follow(Run(fast=True), Run(fast=False), moves)


class Busy(Run):
    """A run that begins with one established connection of every kind."""

    def __init__(self, *, fast: bool) -> None:
        super().__init__(fast=fast)
        self.pairs: list[tuple[Sent, Sent]] = []  # a packet of each direction, as it comes in
        for protocol in (TCP, UDP):
            for vip in (VIP, VIP6):
                for port in (80, 81):
                    Handshake(Endpoint(vip.ip[:-1] + b"\7", 40_000), port, protocol)(self)
                    self.pairs.append((self.received[0], self.forwarded[0].back()))


KINDS = 8


@dataclass(frozen=True)
class Pass:
    """A packet of an established connection, or a piece of one."""

    which: int
    direction: int
    flags: int
    shape: dict[str, Any]
    piece: int | None

    def __call__(self, run: Busy) -> None:
        sent = replace(run.pairs[self.which][self.direction], flags=self.flags, **self.shape)
        if self.piece is None:
            run.pass_on(sent.frame())
        else:
            pieces = sent.fragments(80)
            run.pass_on(pieces[self.piece % len(pieces)])


@dataclass(frozen=True)
class Unresolve:
    """The neighbour behind an interface is no longer known, or again."""

    interface: int
    known: bool

    def __call__(self, run: Busy) -> None:
        for version in (4, 6):
            hop = run.gateway.hops[self.interface, version]
            hop.header = run.gateway.header(self.interface, version) if self.known else None


# So that IPv4 and IPv6 packets with and without TCP options are around the MTU.
lengths = st.sampled_from([0, 1, 2, 100]) | st.integers(MTU - 64, MTU - 26)
common = {
    "sequence": numbers,
    "acknowledgement": numbers,
    "ttl": st.sampled_from([64] * 7 + [2, 1, 0]),
    "options": st.sampled_from([b"", bytes([1] * 12)]),
    "ip_options": st.sampled_from([b""] * 9 + [b"\1\1\1\0"]),
    "extensions": st.sampled_from([()] * 9 + [((60, b"\0\1\4" + bytes(4)),), ((44, bytes(7)),)]),
    "dont_fragment": st.booleans(),
    "trailer": st.sampled_from([b""] * 9 + [b"pad"]),
}
whole = st.fixed_dictionaries(
    common
    | {
        "payload": lengths.map(bytes),
        "checksum": st.sampled_from(["full", "full", "partial", "wrong", "none"]),
    }
)
offloaded = st.fixed_dictionaries(
    common | {"payload": st.just(bytes(3000)), "checksum": st.just("partial"), "gso_size": lengths}
)
passes = st.builds(
    Pass,
    st.integers(0, KINDS - 1),
    st.integers(0, 1),
    weighted({st.just(ACK): 4, st.just(ACK | PSH): 2, flags: 1}),
    weighted({whole: 2, offloaded: 1}),
    weighted({st.none(): 7, st.integers(0, 1): 1}),
)
events = weighted(
    {
        passes: 12,
        st.builds(Pause, st.sampled_from([0.1, 10.0])): 1,
        st.builds(Unresolve, st.integers(1, 2), st.booleans()): 1,
        st.builds(
            Reconfigure, st.frozensets(st.sampled_from(BACKENDS), max_size=1), st.just(frozenset())
        ): 1,
    }
)


@examples(100)
@given(st.lists(events, min_size=20, max_size=60))
def test_established_connections_are_treated_alike(moves):
    follow(Busy(fast=True), Busy(fast=False), moves)
