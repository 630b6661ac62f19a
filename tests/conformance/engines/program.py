"""An eBPF program on single packets, by BPF_PROG_TEST_RUN, as an engine.

The kernel runs the program in the network of world.py, so routes, neighbours and MTUs are real, but no
packet is on a wire: what comes out is the packet as the program left it. So there is one frame out at
most, no stack behind PASS, and no partial checksum, which no test run can have. The time is the
program's own (``own_clock``), and moves by being written.

``xdp`` is both programs, as on an interface: what the first leaves comes to the second, as it came.
"""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from ipaddress import ip_address
from pathlib import Path
from socket import if_nametoindex
from typing import ClassVar, Final

from l4lb.datapath.ebpf.layout import BLOCK_PAIRS, COUNT, LOAD, TOTALS, Load, Totals, word
from l4lb.datapath.libbpf import Map, Object, Program
from l4lb.model import Counters, DropReason, Endpoint, Plan, Recalled, Verdict
from netlab.namespace import entered
from tests.conformance.case import Decided, Measured, Need, Row, Traffic
from tests.conformance.engines.engine import Engine, Result, added_up, decided, learnt, row
from tests.conformance.engines.namespaces import Namespaces, remove_abandoned
from tests.conformance.engines.program_maps import REMEMBERED, ProgramMaps
from tests.conformance.packets import VNET
from tests.conformance.world import GATEWAY_MAC, Host, Side, packed_mac, route

OFFERS: Final = frozenset({Need.CLOCK, Need.DECISIONS, Need.HELD_SWEEP})

OBJECTS: Final = Path(__file__).parents[3] / "l4lb/datapath/bpf"

_START: Final = 1_000.0  # seconds; anything but zero, which could pass for "never"
_SK_BUFF: Final = struct.Struct("=40xI148x")  # struct __sk_buff, linux/bpf.h: ifindex
_XDP_MD: Final = struct.Struct("=IIIIII")  # struct xdp_md
_TC_PASS, _TC_DROP, _TC_REDIRECT = 0xFFFF_FFFF, 2, 7  # TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT
_XDP_DROP, _XDP_PASS, _XDP_TX, _XDP_REDIRECT = 1, 2, 3, 4
_NANOSECONDS: Final = 1_000_000_000
_COUNTERS: Final = ("drops", "verdicts", "traffic")
"""Seen in memory, which is cheaper than asking behind every packet. All CPUs share them then, and only one
counts."""


class ProgramEngine(Engine):
    """``tc``, or ``xdp`` with ``tc`` behind it."""

    offers = OFFERS
    sizes: ClassVar[dict[str, int]] = dict.fromkeys(REMEMBERED, 4_096) | {"blocks": 4_096 // BLOCK_PAIRS}
    """Of the maps, by name: enough for any case, and read through quickly."""

    def __init__(self, kind: str, flags: int = 0) -> None:
        """``kind``: tc or xdp; ``flags``: of the test runs of the TC program."""
        self.name = kind
        self._flags = flags
        remove_abandoned()
        self._namespaces = Namespaces()
        self._objects: list[Object] = []
        self._pins: Path | None = None
        try:
            self._namespaces.up()
            with self.inside():
                self._sides = {side: if_nametoindex(side.value) for side in Side}
                self._load()
        except BaseException:
            self.close()
            raise
        self._senders = {packed_mac(mac): side for side, mac in GATEWAY_MAC.items()}
        self._contexts = {side: _SK_BUFF.pack(index) for side, index in self._sides.items()}
        self.reset()

    def inside(self) -> AbstractContextManager[None]:
        """This thread in the gateway's namespace, where alone ``send`` finds its way."""
        return entered(self._namespaces.gateway)

    def close(self) -> None:
        """See ``Engine``."""
        for loaded in self._objects:
            loaded.close()
        if self._pins is not None:
            subprocess.run(["umount", self._pins], check=True)
            self._pins.rmdir()
        self._namespaces.down()

    def reset(self) -> None:
        """See ``Engine``."""
        self._now = _START
        self._state.reset()
        self._reasons = bytes(self._reasons_now)

    def configure(self, plan: Plan) -> None:
        """See ``Engine``."""
        self._state.apply(plan, self._clock)

    def send(self, frame: bytes, side: Side) -> Result:
        """See ``Engine``."""
        packet = frame[VNET:]
        before = bytes(self._verdicts)
        returned, data = self._run(packet, side)
        verdict = _verdict(returned, before, bytes(self._verdicts))
        out: list[tuple[Side, bytes]] = []
        if verdict is Verdict.PASS:
            assert data == packet, "a packet that is left to the kernel was changed"
        elif verdict is not Verdict.DROP:
            out.append(self._sent(data))
        return Result(verdict, out, self._counted_reasons(), ())

    def send_only(self, frame: bytes, side: Side) -> None:
        """Where another CPU's packets come, too, of which the counters would tell."""
        ran = self._tc.test_run(frame[VNET:], ctx=self._contexts[side])
        assert ran.retval == _TC_REDIRECT, f"returned {ran.retval}"

    def sweep(self, seconds: float, expected: int) -> Result:
        """See ``Engine``."""
        self._now += seconds
        self._state.sweep(self._clock)
        return Result(None, (), self._counted_reasons())

    def wait(self, seconds: float) -> None:
        """Time passes, and there is no daemon that sweeps."""
        self._now += seconds
        self._state.set_clock(self._clock)

    def connections(self) -> list[Row]:
        """See ``Engine``."""
        return [row(info) for info in self._state.connections(self._clock)]

    def traffic(self, backend: Host) -> Traffic:
        """See ``Engine``."""
        return added_up(backend, self.counters())

    def measured(self, backend: Host) -> Measured:
        """See ``Engine``."""
        return learnt(backend, self.counters())

    def counters(self) -> Counters:
        """All of them, as the daemon reads them."""
        return self._state.counters(self._clock)

    def load(self) -> tuple[Load, Totals]:
        """What the programs count of the only path there is, and of all, as it is: unsigned."""
        (path,) = self._state.paths
        found = self._maps["loads"].lookup(word(path)), self._maps["totals"].lookup(word(0))
        return LOAD.unpack(found[0] or b""), TOTALS.unpack(found[1] or b"")

    def recalled(self, service: str, client: Endpoint) -> Recalled:
        """See ``Engine``."""
        return self._state.recall(service, client, self._clock)

    def decisions(self) -> list[Decided]:
        """See ``Engine``."""
        return [decided(each) for each in self._state.decisions()]

    def forget_gone(self) -> None:
        """Forget the connections that the daemon would reset, as their backends or services went away."""
        self._state.forget_gone()

    def written(self, maps: Mapping[str, Map]) -> Mapping[str, Map]:
        """The maps as the daemon's code is to write them."""
        return maps

    # -- running the programs ------------------------------------------------------------------

    @property
    def _clock(self) -> int:
        return round(self._now * _NANOSECONDS)

    def _load(self) -> None:
        """All objects share their maps by pins, as on a host."""
        self._pins = Path(tempfile.mkdtemp(prefix="l4cf-"))
        subprocess.run(["mount", "-t", "bpf", "bpf", self._pins], check=True)
        programs: dict[str, Program] = {}
        self._maps: dict[str, Map] = {}
        for name in ("tc", "xdp", "sweep", "query"):
            path = OBJECTS / f"{name}.bpf.o"
            loaded = Object.open(
                path, rodata={"own_clock": 1}, pins=self._pins, max_entries=self.sizes, in_memory=_COUNTERS
            )
            self._objects.append(loaded)
            loaded.load()
            programs |= loaded.programs
            self._maps = loaded.maps | self._maps
        self._tc = programs["l4lb_tc"]
        self._xdp = programs["l4lb_xdp"] if self.name == "xdp" else None
        self._verdicts = self._maps["verdicts"].memory()
        self._reasons_now = self._maps["drops"].memory()
        macs = {index: packed_mac(GATEWAY_MAC[side]) for side, index in self._sides.items()}
        self._state = ProgramMaps(self.written(self._maps), programs, macs)

    def _run(self, packet: bytes, side: Side) -> tuple[int, bytes]:
        """What the TC program returned, and the packet as it left it; or the same of the XDP program
        in the other's words."""
        if self._xdp is not None:
            context = _XDP_MD.pack(0, len(packet), 0, self._sides[side], 0, 0)
            ran = self._xdp.test_run(packet, ctx=context)
            if ran.retval != _XDP_PASS:
                known = {_XDP_DROP: _TC_DROP, _XDP_TX: _TC_REDIRECT, _XDP_REDIRECT: _TC_REDIRECT}
                return known[ran.retval], ran.data
            assert ran.data == packet, "a packet that is left to TC was changed"
        ran = self._tc.test_run(packet, ctx=self._contexts[side], flags=self._flags)
        return ran.retval, ran.data

    def _sent(self, data: bytes) -> tuple[Side, bytes]:
        """The frame, and the side that it leaves by. If its neighbour is not known yet, the kernel will
        find it, and fill in the addresses, when the program is through."""
        side = self._senders.get(data[6:12])
        if side is None:
            header = data[14:]
            side, addresses = _neighbour(header[16:20] if header[0] >> 4 == 4 else header[24:40])
            data = addresses + data[12:]
        return side, bytes(VNET) + data

    def _counted_reasons(self) -> Counter[DropReason]:
        before, self._reasons = self._reasons, bytes(self._reasons_now)
        if self._reasons == before:
            return Counter()
        return Counter({DropReason(index): more for index, more in _counted(before, self._reasons)})


def _verdict(returned: int, before: bytes, now: bytes) -> Verdict:
    """The verdict as it was counted, which must be what the program returned. The programs count neither
    a packet that is forwarded nor one that is not ours."""
    if now == before:
        assert returned in (_TC_PASS, _TC_REDIRECT), f"returned {returned}, and counted nothing"
        return Verdict.PASS if returned == _TC_PASS else Verdict.FORWARD
    counted = list(_counted(before, now))
    assert counted in ([(Verdict.REPLY, 1)], [(Verdict.DROP, 1)]), f"one packet, counted as {counted}"
    verdict = Verdict(counted[0][0])
    assert returned == (_TC_REDIRECT if verdict is Verdict.REPLY else _TC_DROP)
    return verdict


def _counted(before: bytes, now: bytes) -> Iterator[tuple[int, int]]:
    """Which counters have gone up, and by how much."""
    for index, ((old,), (new,)) in enumerate(
        zip(COUNT.iter_unpack(before), COUNT.iter_unpack(now), strict=True)
    ):
        if new != old:
            yield index, new - old


@functools.cache
def _neighbour(destination: bytes) -> tuple[Side, bytes]:
    """Where packets to an address leave, and between which Ethernet addresses."""
    hop = route(str(ip_address(destination)))
    assert hop is not None, "a frame that goes nowhere"
    return hop.side, packed_mac(hop.mac) + packed_mac(GATEWAY_MAC[hop.side])
