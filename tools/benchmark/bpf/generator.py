"""Sends and counts single packets on the cables.

The kernel's BPF_PROG_TEST_RUN with live frames sends what generator.c writes out of the client's
interface. On virtual cables the gateway and the receiver then do their part on the same core, in the
sender's time, before the next batch is made: the rate is that of one core for all three, and nothing
queues up that could be lost.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from benchmark import BenchError
from benchmark.bpf.flows import FRAME, RANDOM, Order
from benchmark.bpf.programs import attached, context, loaded
from benchmark.lab.cables import CLIENT_MAC, GATEWAY_MACS, Cables
from benchmark.lab.cores import on_one_core
from l4lb.datapath.libbpf import LibbpfError, Map, Object
from l4lb.model import Endpoint
from l4lb.wire import tcp
from netlab.namespace import entered

_LIVE_FRAMES: Final = 2  # BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18
_CALL: Final = 500_000  # packets sent by a system call
_HANDSHAKES: Final = 8_192  # under way at a time; half-open connections have less room than others
_MACS: Final = (GATEWAY_MACS[0], CLIENT_MAC)
_ONLY: Final = bytes(4)  # key of the only value of an array
_DROPPED, _ANSWERED = (kind.to_bytes(4, "little") for kind in range(2))


@dataclass(frozen=True, slots=True)
class Sent:
    """Packets sent in so many seconds, and those that came through where they are counted."""

    sent: int
    seconds: float
    received: int = 0


class Sender:
    """Sends from the client's interface; see ``sender``."""

    def __init__(self, cables: Cables, generator: Object) -> None:
        self._namespace = cables.namespaces["client"]
        self._program = generator.programs["generate"]
        self._orders = generator.maps["orders"]
        with entered(self._namespace):
            self._context = context(FRAME, socket.if_nametoindex("eth0"))

    def send(self, order: Order, count: int) -> float:
        """Send so many packets; the seconds that took, without those in which the kernel prepares it
        and, for longer still, gives the memory back.

        Raises:
            BenchError: the kernel cannot.
        """
        self._orders.update(_ONLY, order.pack())
        try:
            with entered(self._namespace), on_one_core():
                done = self._program.test_run(
                    bytes(FRAME), ctx=self._context, repeat=count, flags=_LIVE_FRAMES
                )
        except LibbpfError as error:
            raise BenchError(f"live frames need Linux 5.18: {error}") from None
        return done.duration_ns * count / 1e9

    def flood(self, destination: Endpoint, seconds: float) -> Sent:
        """SYNs, each from another client, for so many seconds on the wall."""
        order, sent = Order(_MACS, destination, tcp.SYN, RANDOM, shuffled=True), 0
        begun = time.monotonic()
        while (took := time.monotonic() - begun) < seconds:
            self.send(order, _CALL)
            sent += _CALL
        return Sent(sent, took)


class Generator(Sender):
    """Sends packets of established connections and counts what comes through; see ``ready``."""

    def __init__(self, cables: Cables, generator: Object, server: Map, client: Map) -> None:
        super().__init__(cables, generator)
        self._server, self._client = server, client

    def connect(self, destination: Endpoint, flows: int, services: int = 1, begin: int = 0) -> float:
        """Open a TCP connection for each of so many flows, from ``begin`` on, with SYN, SYN-ACK and ACK;
        the seconds that took (``send``).

        Raises:
            BenchError: some handshakes did not come to their end.
        """
        syn, took = Order(_MACS, destination, tcp.SYN, begin + flows, services), 0.0
        answered, back = _total(self._server, _ANSWERED), _total(self._client, _DROPPED)
        begun = _total(self._server, _DROPPED)
        for first in range(begin, begin + flows, _HANDSHAKES):
            count = min(_HANDSHAKES, begin + flows - first)
            for flags in (tcp.SYN, tcp.ACK):
                took += self.send(replace(syn, flags=flags, first=first), count)
        for what, count in (
            ("SYNs came through", _total(self._server, _ANSWERED) - answered),
            ("SYN-ACKs came back", _total(self._client, _DROPPED) - back),
            ("ACKs came through", _total(self._server, _DROPPED) - begun),
        ):
            if count != flows:
                raise BenchError(f"of {flows} handshakes {count} {what}")
        return took

    def blast(self, destination: Endpoint, flows: int, seconds: float) -> Sent:
        """ACKs of all flows in turn, as many as go in so many seconds."""
        before, sent, took = _total(self._server, _DROPPED), 0, 0.0
        order = Order(_MACS, destination, tcp.ACK, flows)
        while took < seconds:
            took += self.send(replace(order, first=sent % flows), _CALL)
            sent += _CALL
        return Sent(sent, took, _total(self._server, _DROPPED) - before)


def _total(counters: Map, kind: bytes) -> int:
    return sum(int.from_bytes(value, "little") for value in counters.lookup_percpu(kind))


@contextmanager
def sender(cables: Cables) -> Iterator[Sender]:
    """A sender alone.

    Raises:
        BenchError: its program does not compile or load.
    """
    with loaded("generator", cables.directory) as generator:
        yield Sender(cables, generator)


@contextmanager
def ready(cables: Cables) -> Iterator[Generator]:
    """A generator, and receivers at the backend and at the client.

    Raises:
        BenchError: a program does not compile or load.
    """
    with ExitStack() as stack:
        received = []
        for host in ("backend", "client"):
            receiver = stack.enter_context(loaded("receiver", cables.directory))
            for hook in ("xdp", "tc"):
                program = receiver.programs[f"receive_{hook}"]
                stack.enter_context(attached(program, hook, cables.namespaces[host], "eth0"))
            received.append(receiver.maps["received"])
        generator = stack.enter_context(loaded("generator", cables.directory))
        yield Generator(cables, generator, *received)
