"""A datapath on a real kernel as an engine: packets go in and come out on the wire."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from l4lb.datapath.base import ConnectionFilter, Datapath
from l4lb.datapath.ebpf.datapath import EbpfDatapath
from l4lb.datapath.raw.datapath import RawDatapath
from l4lb.model import Counters, DropReason, Endpoint, Limits, Plan, Recalled, ServicePlan, Verdict
from l4lb.netlink.watch import KernelWatch
from netlab.namespace import entered
from tests.conformance.case import Measured, Need, Row, Traffic
from tests.conformance.engines.engine import Engine, Result, added_up, learnt, row
from tests.conformance.engines.namespaces import Namespaces, remove_abandoned
from tests.conformance.engines.wires import DEADLINE, FENCE, Wires
from tests.conformance.plans import NOBODY, service
from tests.conformance.world import V4, Host, Side

_UDP_GSO: Final = (6, 2)  # the first Linux with VIRTIO_NET_HDR_GSO_UDP_L4

RAW_OFFERS: Final = frozenset(Need) - {Need.CLOCK, Need.DECISIONS, Need.HELD_SWEEP, Need.UDP_GSO}
EBPF_OFFERS: Final = frozenset({Need.STUBS, Need.PARTIAL_SUMS, Need.RESETS, Need.PRIORITY_TAGS})

_LIMITS: Final = Limits(half_open=4_096, established=4_096, affinity=4_096, fragments=4_096)
"""Of the maps: enough for any case, and gone through quickly."""

T = TypeVar("T")

Make = Callable[[KernelWatch], Datapath]


def raw(state: Path) -> Make:
    """The raw datapath; ``state`` is a directory for what it keeps in files."""
    return lambda watch: RawDatapath(watch, state / "l4lb", 0.0)


def ebpf(kind: str, file_system: Path) -> Make:
    """The tc or xdp datapath; ``file_system`` is a BPF file system of its own."""
    return lambda watch: EbpfDatapath(watch, kind, _LIMITS, file_system=file_system)


class LiveEngine(Engine):
    """A datapath in a namespace. There is no clock to move and no sweep to hold back."""

    def __init__(self, name: str, make: Make, offers: frozenset[Need]) -> None:
        """``offers``: without what depends on the kernel."""
        self.name = f"live-{name}"
        release = Path("/proc/sys/kernel/osrelease").read_text().split(".")
        udp_gso = (int(release[0]), int(release[1])) >= _UDP_GSO
        self.offers = offers | frozenset({Need.UDP_GSO} if udp_gso else ())
        self._seen = Counters({}, {}, {})
        self._fences_seen = 0
        remove_abandoned()
        self._namespaces = Namespaces()
        try:
            self._namespaces.up()
            self._wires = Wires({side: self._namespaces.peer(side) for side in Side})
            self._gateway = _Gateway(self._namespaces.gateway, make)
        except BaseException:
            self._namespaces.down()
            raise

    @property
    def namespace(self) -> str:
        """The name of the gateway's namespace."""
        return self._namespaces.gateway

    def close(self) -> None:
        """See ``Engine``."""
        try:
            self._gateway.close()
            self._wires.close()
        finally:
            self._namespaces.down()

    def reset(self) -> None:
        """See ``Engine``. What a datapath remembers beside connections is not forgotten: the first
        fragments of datagrams, and direct connections. Cases do not share those."""
        self._gateway.call(lambda datapath: datapath.flush(ConnectionFilter()))
        self.configure(Plan())
        self._wires.settle()
        self._count()

    def configure(self, plan: Plan) -> None:
        """See ``Engine``."""
        fence: ServicePlan = replace(service(V4, vip=FENCE, selection=NOBODY), backends=())
        fenced = replace(plan, services=(*plan.services, fence))
        self._gateway.call(lambda datapath: datapath.apply(fenced))

    def send(self, frame: bytes, side: Side) -> Result:
        """See ``Engine``."""
        self._wires.send(side, frame)
        out = self._wires.settle()
        verdicts, reasons = self._count()
        return Result(_one(verdicts), out, reasons)

    def sweep(self, seconds: float, expected: int) -> Result:
        """See ``Engine``."""
        assert not seconds, "there is no clock to move"
        out = self._wires.wait(expected) + self._wires.settle()
        _, reasons = self._count()
        return Result(None, out, reasons)

    def connections(self) -> list[Row]:
        """See ``Engine``."""
        infos, _ = self._gateway.call(lambda datapath: datapath.connections(ConnectionFilter(), 1_000))
        return [row(info) for info in infos]

    def traffic(self, backend: Host) -> Traffic:
        """See ``Engine``."""
        return added_up(backend, self._gateway.call(lambda datapath: datapath.counters()))

    def measured(self, backend: Host) -> Measured:
        """See ``Engine``."""
        return learnt(backend, self._gateway.call(lambda datapath: datapath.counters()))

    def recalled(self, service: str, client: Endpoint) -> Recalled:
        """See ``Engine``."""
        return self._gateway.call(lambda datapath: datapath.recall(service, client))

    def _count(self) -> tuple[Counter[Verdict], Counter[DropReason]]:
        """What was counted since the last time, but for the fences."""
        before, self._seen = self._seen, self._gateway.call(lambda datapath: datapath.counters())
        fences, self._fences_seen = self._wires.fences - self._fences_seen, self._wires.fences
        verdicts = Counter(self._seen.verdicts)
        verdicts.subtract(Counter(before.verdicts) + Counter({Verdict.REPLY: fences}))
        reasons = Counter(self._seen.drops)
        reasons.subtract(Counter(before.drops) + Counter({DropReason.NO_BACKEND: fences}))
        # Fragments that wait in vain are given up after 30 s, when another case is under way.
        del reasons[DropReason.FRAGMENT_UNKNOWN]
        if Need.REFUSED_HALF_OPEN not in self.offers:
            del reasons[DropReason.HALF_OPEN_EVICTED]  # as the daemon guesses from its last count
        return +verdicts, +reasons


def _one(verdicts: Counter[Verdict]) -> Verdict:
    """The verdict on one packet. One that the filter did not let through was left to the host; one
    that others had waited for counts with them."""
    if Verdict.FORWARD in verdicts:
        return Verdict.FORWARD
    assert len(verdicts) <= 1, f"one packet, many verdicts: {verdicts}"
    return next(iter(verdicts), Verdict.PASS)


class _Gateway:
    """The datapath in its namespace, on a thread of its own with an event loop."""

    def __init__(self, namespace: str, make: Make) -> None:
        self._started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(namespace, make), name=namespace, daemon=True
        )
        self._thread.start()
        self._started.result(2 * DEADLINE)

    def call(self, ask: Callable[[Datapath], Coroutine[Any, Any, T]]) -> T:
        """Ask the datapath something, from another thread."""
        return asyncio.run_coroutine_threadsafe(ask(self._datapath), self._loop).result(2 * DEADLINE)

    def close(self) -> None:
        """Stop the datapath; nothing of it is left."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(2 * DEADLINE)

    def _run(self, namespace: str, make: Make) -> None:
        try:
            with entered(namespace):
                asyncio.run(self._serve(make))
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self, make: Make) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        async with KernelWatch() as watch:
            self._datapath = make(watch)
            try:
                await self._datapath.attach([side.value for side in Side])
                self._started.set_result(None)
                await self._closing.wait()
            finally:
                await self._datapath.close(hold=False)
