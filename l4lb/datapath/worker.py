"""The packet process of the ``raw`` datapath: sockets around the director.

Started by raw.py as ``python -m l4lb.datapath.worker FD`` with little but packet code imported. It
reads frames, lets the fast path or the director decide, and sends; between packets it answers the
control plane on the channel FD, a stream of pickled tuples between a parent and its child, which
trust each other. It never waits for the control plane.
"""

from __future__ import annotations

import gc
import select
import signal
import sys
import traceback
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection as Channel
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from l4lb.datapath.base import ConnectionFilter
from l4lb.datapath.claim import Claim
from l4lb.datapath.hops import NextHop, NextHops, Send, is_ethernet
from l4lb.datapath.packet_socket import INTERFACE_GONE, option_memory
from l4lb.datapath.port import Port
from l4lb.datapath.reports import Job, connection_infos, counters, flush
from l4lb.datapath.saved import restore, save
from l4lb.director.director import Director
from l4lb.director.fastpath import fast_path
from l4lb.director.parse import parse
from l4lb.model import Counters, DropReason, Plan, Verdict
from l4lb.netlink.state import KernelState, Neighbour
from l4lb.wire.frame import ETHERNET, FRAME_MAX

BATCH: Final = 64
"""Frames read from one interface before the others get their turn."""

TICK: Final = 0.1
"""Seconds between two rounds of housekeeping."""

_OPTION_SLACK: Final = 240
"""Bytes of socket option memory for what is not instructions."""

_TRACEBACKS: Final = 10
"""Of internal errors, written out; the rest is only counted."""


class Worker:
    """The packet process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._poll = select.epoll()
        self._poll.register(channel.fileno(), select.EPOLLIN)
        self._kernel = KernelState()
        self._local: frozenset[bytes] = frozenset()
        self._claim = Claim.of(Plan())
        self._attached: tuple[str, ...] = ()  # names of the interfaces that receive
        self._ports: dict[int, Port] = {}
        self._receiving: dict[int, Port] = {}  # by file descriptor
        self._hops = NextHops(self._resolve, self._egress, self._count)
        self._director = Director(monotonic(), self._hops.route, Random())
        self._fast = fast_path(self._director.table)
        self._frame = bytearray(FRAME_MAX)
        self._view = memoryview(self._frame)
        self._saved: Path | None = None  # where connections go if the control plane is killed
        self._tracebacks = _TRACEBACKS
        self._overruns = 0  # of ports closed since
        self._jobs: deque[tuple[int, Job]] = deque()  # (number of the request, work)
        self._running = True

    # -- packets -------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the control plane says stop, or is gone."""
        next_tick = monotonic()
        channel = self._channel.fileno()
        while self._running:
            for descriptor, _ in self._poll.poll(0 if self._jobs else TICK):
                port = self._receiving.get(descriptor)
                if port is not None:
                    self._drain(port)
                elif descriptor == channel:
                    self._converse()
            if self._jobs:
                self._work()
            now = monotonic()
            if now >= next_tick:
                next_tick = now + TICK
                self._guarded(self._director.tick, now)
                self._hops.tick(now)
                self._emit(None, now)

    def _drain(self, port: Port) -> None:
        """Read a batch of frames and forward them."""
        frame, view, fast = self._frame, self._view, self._fast
        receive = port.socket.receive_into
        now = monotonic()
        try:
            for _ in range(BATCH):
                end = receive(frame)
                hop = fast(frame, end, now)
                if hop is None:
                    self._clear_way(port, end, now)
                    continue
                try:
                    hop.send(view[:end])  # type: ignore[attr-defined]  # ours are NextHops
                except OSError:
                    self._count(DropReason.SEND_FAILED)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in INTERFACE_GONE:
                raise

    def _clear_way(self, port: Port, end: int, now: float) -> None:
        frame = self._frame
        verdict = self._guarded(self._director.process, frame, end, now)
        if verdict is Verdict.PASS:
            packet = parse(frame, end)
            if packet is not None and self._claim.covers(packet, self._local):
                self._hand_back(port, self._view[:end])
        self._emit(port, now)

    def _emit(self, port: Port | None, now: float) -> None:
        """Send what the director put out."""
        out = self._director.out
        for hop, frame, end in out:
            if hop is None:
                if port is not None:
                    self._hand_back(port, memoryview(frame)[:end])
                continue
            assert isinstance(hop, NextHop)
            if hop.header is None:
                self._hops.wait(hop, bytes(frame[:end]), now)
                continue
            frame[ETHERNET : ETHERNET + 14] = hop.header
            try:
                hop.send(memoryview(frame)[:end])
            except OSError:
                self._count(DropReason.SEND_FAILED)
        out.clear()

    def _hand_back(self, port: Port, frame: memoryview) -> None:
        try:
            port.hand_back(frame)
        except OSError:
            self._count(DropReason.SEND_FAILED)

    def _guarded(self, step: Any, *arguments: Any) -> Any:
        """A bug in the director costs one packet, not the process."""
        try:
            return step(*arguments)
        except Exception:
            self._count(DropReason.INTERNAL)
            self._director.out.clear()
            if self._tracebacks:
                self._tracebacks -= 1
                self._log("error", f"internal error, one packet lost: {traceback.format_exc()}")
            return None

    def _count(self, reason: DropReason) -> None:
        self._director.drops[reason] += 1

    # -- interfaces ----------------------------------------------------------------------------

    def _resolve(self, index: int, address: bytes) -> None:
        self._channel.send(("resolve", index, address))

    def _egress(self, index: int) -> Send | None:
        port = self._ports.get(index) or self._open(index, receive=False)
        return port.socket.send if port is not None else None

    def _open(self, index: int, *, receive: bool) -> Port | None:
        link = next((link for link in self._kernel.links if link.index == index), None)
        if link is None:
            return None
        try:
            port = Port(link.name, index, self._filter() if receive else None)
        except OSError as error:
            self._log("warning", f"interface {link.name} cannot be used: {error.strerror}")
            return None
        self._ports[index] = port
        if receive:
            self._receiving[port.socket.fileno()] = port
            self._poll.register(port.socket.fileno(), select.EPOLLIN)
        return port

    def _filter(self) -> bytes:
        """The socket filter, as exact as the kernel's memory for socket options lets it be: while a
        filter is replaced, the old one and the new one count together."""
        return self._claim.packet_filter(option_memory() // 2 - _OPTION_SLACK)

    def _shut(self, port: Port) -> None:
        descriptor = port.socket.fileno()
        if self._receiving.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)
            self._overruns += port.socket.read_overruns()
        del self._ports[port.index]
        port.close()

    def _reconcile_ports(self) -> None:
        """Make the open sockets fit the interfaces that exist and the ones to receive on."""
        present = {link.index: link.name for link in self._kernel.links}
        wanted = {
            link.index for link in self._kernel.links if link.name in self._attached and is_ethernet(link)
        }
        for port in list(self._ports.values()):
            receives = port.socket.fileno() in self._receiving
            if present.get(port.index) != port.name or receives != (port.index in wanted):
                self._shut(port)
        for index in wanted - self._ports.keys():
            self._open(index, receive=True)

    # -- the control plane ---------------------------------------------------------------------

    def _converse(self) -> None:
        try:
            while self._running and self._channel.poll():
                message = self._channel.recv()
                handler = getattr(self, f"on_{message[0]}")
                answer = handler(*message[2:])
                if isinstance(answer, Generator):
                    self._jobs.append((message[1], answer))
                elif message[1]:  # a request, by number; 0 wants no answer
                    self._channel.send(("answer", message[1], answer))
        except (EOFError, ConnectionError):
            # The control plane was killed. The shield stays, and the next one gets the connections.
            self.on_stop(self._saved)

    def _work(self) -> None:
        """One step of the job that has waited longest."""
        number, job = self._jobs[0]
        try:
            next(job)
        except StopIteration as end:
            self._jobs.popleft()
            self._channel.send(("answer", number, end.value))
        self._emit(None, monotonic())

    def _log(self, level: str, text: str) -> None:
        self._channel.send(("log", level, text))

    def on_kernel(self, kernel: KernelState) -> None:
        """Links, addresses or routes have changed."""
        self._kernel = kernel
        self._local = frozenset(address.ip for address in kernel.addresses)
        self._reconcile_ports()
        self._hops.follow(kernel)

    def on_neighbours(self, neighbours: Sequence[Neighbour]) -> None:
        """Neighbours have changed."""
        self._hops.learn(neighbours)

    def on_attach(self, interfaces: Sequence[str]) -> list[str]:
        """Receive on exactly these interfaces; the ones that are there now."""
        self._attached = tuple(interfaces)
        self._reconcile_ports()
        self._hops.follow(self._kernel)
        return [port.name for port in self._receiving.values()]

    def on_plan(self, plan: Plan) -> None:
        """Follow a new plan."""
        claim = Claim.of(plan)
        if claim != self._claim:
            self._claim = claim
            program = self._filter()
            for port in self._receiving.values():
                port.socket.set_filter(program)
        self._director.configure(plan)

    def on_restore(self, path: Path) -> tuple[int, int]:
        """Take over the connections of the process before; where they are saved if it comes to that."""
        self._saved = path
        return restore(self._director, path, monotonic())

    def on_counters(self) -> Counters:
        """A snapshot of the counters."""
        overruns = self._overruns + sum(port.socket.read_overruns() for port in self._receiving.values())
        return counters(self._director, overruns)

    def on_connections(self, which: ConnectionFilter, limit: int) -> Job:
        """Connections that match, and how many there are."""
        return connection_infos(self._director, which, limit, monotonic())

    def on_flush(self, which: ConnectionFilter) -> Job:
        """Reset connections that match."""
        return flush(self._director, which)

    def on_details(self) -> dict[str, str]:
        """Facts for people."""
        return {
            "interfaces": ", ".join(sorted(port.name for port in self._receiving.values())) or "none",
            "next hops": str(len(self._hops)),
        }

    def on_stop(self, path: Path | None) -> int:
        """Stop forwarding, save the connections if there is a path; how many of them are live."""
        for port in self._receiving.values():
            port.socket.stop_receiving()
        self._running = False
        return save(self._director, path, monotonic()) if path is not None else 0


def main() -> None:
    """Entry point of the process."""
    # A terminal's interrupt goes to the whole group; the control plane decides when we stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Nothing here makes cycles, and a collector that walks a million connections stops the traffic.
    gc.disable()
    Worker(Channel(int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
