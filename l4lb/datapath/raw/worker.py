"""The packet process of the ``raw`` datapath: sockets around the director.

Started by raw.py as ``python -m l4lb.datapath.raw.worker FD`` with little but packet code imported. It
reads frames, lets the fast path or the director decide, and sends; between packets it does what the
control plane says on the channel FD. It never waits for the control plane.

Reading one frame a call is on purpose. Of the time this process takes under load, 70% is in ``send``,
which runs the receiver's half of the network stack, and 9% in ``recv``; recvmmsg(2) and sendmmsg(2)
would save a part of the system calls' share only, and cost fixed places for frames.
"""

from __future__ import annotations

import errno
import gc
import select
import sys
import traceback
from collections import deque
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from l4lb.datapath.base import ConnectionFilter
from l4lb.datapath.raw.channel import Channel
from l4lb.datapath.raw.claim import Claim
from l4lb.datapath.raw.hops import NextHop, NextHops
from l4lb.datapath.raw.kernel_news import News
from l4lb.datapath.raw.packet_socket import INTERFACE_GONE
from l4lb.datapath.raw.port import Port, Ports
from l4lb.datapath.raw.reports import Job, connection_infos, counters, flush, loads, recall
from l4lb.datapath.raw.saved import live, restore, save
from l4lb.director.director import Director
from l4lb.director.fastpath import fast_path
from l4lb.director.lookup import reweighed
from l4lb.director.parse import parse
from l4lb.model import (
    BackendKey,
    Costs,
    Counters,
    Decision,
    DropReason,
    Endpoint,
    Load,
    Plan,
    Recalled,
    ServicePlan,
    Verdict,
)
from l4lb.netlink.state import Neighbour
from l4lb.privileges import Capability, keep_only
from l4lb.wire.frame import ETHERNET, FRAME_MAX

BATCH: Final = 64
"""Frames read from one interface before the others get their turn."""

TICK: Final = 0.1
"""Seconds between two rounds of housekeeping."""

_TRACEBACKS: Final = 10
"""Of internal errors, written out; the rest is only counted."""


class Worker:
    """The packet process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._poll = select.epoll()
        self._poll.register(channel.fileno(), select.EPOLLIN)
        self._claim = Claim.of(Plan())
        self._local: frozenset[bytes] = frozenset()  # the gateway's own addresses
        self._ports = Ports(self._receive_from, self._stop_receiving_from, self._complain)
        self._receiving: dict[int, Port] = {}  # by file descriptor
        self._hops = NextHops(self._resolve, self._ports.egress, self._count)
        self._director = Director(monotonic(), self._hops.route, Random())
        self._services: dict[str, ServicePlan] = {}
        self._fast = fast_path(self._director.table)
        self._frame = bytearray(FRAME_MAX)
        self._view = memoryview(self._frame)
        self._saved: Path | None = None  # where connections go if this process or its parent fails
        self._tracebacks = _TRACEBACKS
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
        for _ in range(BATCH):
            try:
                end = receive(frame)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EINVAL:
                    self._count(DropReason.UNREADABLE)
                    continue
                if error.errno not in INTERFACE_GONE:
                    self._complain(f"interface {port.name} cannot be read: {error.strerror}")
                return
            hop = fast(frame, end, now)
            if hop is None:
                self._clear_way(port, end, now)
                continue
            try:
                hop.send(view[:end])  # type: ignore[attr-defined]  # ours are NextHops
            except OSError:
                self._count(DropReason.SEND_FAILED)

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

    def _resolve(self, index: int, address: bytes) -> None:
        if not self._channel.writing:  # it is asked again, and must not pile up unread
            self._say("resolve", index, address)

    def _receive_from(self, port: Port) -> None:
        self._receiving[port.socket.fileno()] = port
        self._poll.register(port.socket.fileno(), select.EPOLLIN)

    def _stop_receiving_from(self, port: Port) -> None:
        del self._receiving[port.socket.fileno()]
        self._poll.unregister(port.socket.fileno())

    # -- the control plane ---------------------------------------------------------------------

    def _converse(self) -> None:
        self._channel.flush()
        try:
            messages = self._channel.receive()
        except EOFError:
            # The control plane was killed. The shield stays, and the next one gets the connections.
            self.on_stop(self._saved)
            return
        for name, number, *arguments in messages:
            answer = getattr(self, f"on_{name}")(*arguments)
            if isinstance(answer, Generator):
                self._jobs.append((number, answer))
            elif number:  # a request; 0 wants no answer
                self._say("answer", number, answer)
        self._watch_channel()

    def _work(self) -> None:
        """One step of the job that has waited longest; its parts go as they come."""
        number, job = self._jobs[0]
        if self._channel.writing:
            return  # the control plane has to catch up
        try:
            part = next(job)
            if part:
                self._say("part", number, part)
        except StopIteration as end:
            self._jobs.popleft()
            self._say("answer", number, end.value)
        self._emit(None, monotonic())

    def _say(self, *message: Any) -> None:
        self._channel.send(message)
        self._watch_channel()

    def _watch_channel(self) -> None:
        events = select.EPOLLIN | (select.EPOLLOUT if self._channel.writing else 0)
        self._poll.modify(self._channel.fileno(), events)

    def _log(self, level: str, text: str) -> None:
        self._say("log", level, text)

    def _complain(self, text: str) -> None:
        self._log("warning", text)

    def on_ping(self) -> None:
        """Answer, to show that packets are being read."""

    def on_kernel(self, news: News) -> None:
        """Links, addresses or routes have changed."""
        if news.addresses is not None:
            self._local = frozenset(address.ip for address in news.addresses)
        if news.links is not None:
            self._ports.follow(news.links)
        self._hops.follow(news)

    def on_neighbours(self, neighbours: Sequence[Neighbour]) -> None:
        """Neighbours have changed."""
        self._hops.learn(neighbours)

    def on_attach(self, interfaces: Sequence[str]) -> None:
        """Receive on exactly these interfaces."""
        self._ports.attach(interfaces)
        self._hops.renew()

    def on_plan(
        self, plan: Plan, services: Sequence[ServicePlan | str], saved: Path | None
    ) -> tuple[int, int]:
        """Follow a new plan, whose services come apart: those that have not changed by name only.

        With the first plan, ``saved`` is where the process before left its connections, and where
        this one is to leave them. They are taken over before the first packet is let in: one that
        met an empty table would reset its connection. How many were restored, and left out.
        """
        whole = tuple(self._services[each] if isinstance(each, str) else each for each in services)
        self._services = {service.name: service for service in whole}
        plan = replace(plan, services=whole)
        self._director.configure(plan)
        counts = (0, 0)
        if saved is not None:
            self._saved = saved
            try:
                counts = restore(self._director, saved, monotonic())
            except OSError as error:
                self._complain(f"no connections are restored: {saved} cannot be used: {error.strerror}")
        self._claim = Claim.of(plan, self._claim)
        self._ports.claim(self._claim)
        return counts

    def on_reweigh(self, costs: Mapping[str, Costs]) -> None:
        """Other costs for services that choose by costs."""
        self._director.services.reweigh(costs)
        self._services = reweighed(self._services, costs)

    def on_loads(self, services: Collection[str]) -> dict[BackendKey, Load]:
        """How the backends of these services are doing."""
        return loads(self._director, services, monotonic())

    def on_decisions(self) -> list[Decision]:
        """Decisions that were kept, the oldest first."""
        return list(self._director.decisions)

    def on_recall(self, service: str, client: Endpoint) -> Recalled:
        """What goes before the selection for a client."""
        return recall(self._director, service, client, monotonic())

    def on_counters(self) -> Counters:
        """A snapshot of the counters."""
        return counters(self._director, self._ports.overruns(), monotonic())

    def on_connections(self, which: ConnectionFilter, limit: int) -> Job:
        """Connections that match, and how many there are."""
        return connection_infos(self._director, which, limit, monotonic())

    def on_flush(self, which: ConnectionFilter) -> Job:
        """Reset connections that match."""
        return flush(self._director, which)

    def on_details(self) -> dict[str, str]:
        """Facts for people."""
        return {
            "interfaces": ", ".join(sorted(port.name for port in self._ports.receiving)) or "none",
            "next hops": str(len(self._hops)),
        }

    def on_stop(self, path: Path | None) -> int:
        """Stop forwarding, save the connections if there is a path; how many of them are live."""
        for port in self._ports.receiving:
            port.socket.stop_receiving()
        self._running = False
        return self._save(path) if path is not None else 0

    def fail(self) -> None:
        """Something unforeseen ended ``run``: leave the connections to the next process."""
        if self._saved is not None:
            self._save(self._saved)

    def _save(self, path: Path) -> int:
        """Save the connections; how many of them are live, whether they could be saved or not."""
        try:
            return save(self._director, path, monotonic())
        except OSError as error:
            self._complain(f"the connections are not saved: {path} cannot be written: {error.strerror}")
            return live(self._director)


def main() -> None:
    """Entry point of the process."""
    # Nothing here makes cycles, and a collector that walks a million connections stops the traffic.
    gc.disable()
    keep_only((Capability.NET_ADMIN, Capability.NET_RAW))  # packet sockets; marked frames, large buffers
    worker = Worker(Channel(int(sys.argv[1])))
    try:
        worker.run()
    except Exception:
        worker.fail()
        raise


if __name__ == "__main__":
    main()
