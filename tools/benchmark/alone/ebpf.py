"""The eBPF programs alone: nanoseconds of an established packet, and memory of a connection.

BPF_PROG_TEST_RUN repeats a program on one packet, and the second pass sees what the first has left. So
the program that is run is restore.c: it writes the packet of another flow, each time, and goes on to
the program under test. Its own cost, measured without one, is subtracted. The connections are real: l4lb
runs on the cables, and every flow has gone through its handshake.
"""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmark import BenchError
from benchmark.bpf.flows import FRAME, Order
from benchmark.bpf.generator import ready
from benchmark.bpf.programs import context, loaded, sk_buff
from benchmark.figures.statistics import rotated
from benchmark.lab.cables import CLIENT_MAC, GATEWAY_MACS, Cables, backends
from benchmark.lab.cores import on_one_core
from benchmark.peers.bare import configured
from benchmark.peers.l4lb import config_text, running
from benchmark.peers.service import Served
from l4lb.datapath.libbpf import Link, Map, Object, Program, TestRun
from l4lb.model import Endpoint
from l4lb.wire import tcp
from netlab.namespace import entered

_FIRST_PORT: Final = 1_000  # of the services
_BACKEND_PORT: Final = 80
_REPEATS: Final = 5
_RUNS: Final = 1_000_000  # of a program in one repeat
_TRIALS: Final = 1_000  # single runs in which the program's verdict is looked at
_TRIES: Final = 3  # at all of these being sent on
_KEY: Final = bytes(4)
_REDIRECT: Final = {"xdp": 4, "tc": 7}  # XDP_REDIRECT, TC_ACT_REDIRECT
_TABLE: Final = "connections4"  # of the established connections
_LIMIT: Final = 1_000_000  # of established connections, the default
_ENOUGH: Final = 100_000  # flows for their memory to stand out from everybody else's


@dataclass(frozen=True, slots=True)
class Case:
    """What the established packets are of."""

    flows: int
    backends: int = 8
    services: int = 1


CASES: Final = (
    Case(1),
    Case(1_000),
    Case(100_000),
    Case(1_000_000),
    Case(1_000, backends=1_000),
    Case(1_000, services=1_000),
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Of an established connection, in bytes.

    Attributes:
        maps: what the maps have grown by, as the kernel accounts for each (memlock in fdinfo).
        slab: what the kernel's slabs have grown by (SUnreclaim in /proc/meminfo), whoever has it. Entries
            of the kernel's hash maps come from there, rounded up to a size that there is.
        table: its share of the table, which is made for the limit of connections.
        at_rest: of all maps together, before any connection, half open ones included.
    """

    maps: float
    slab: float
    table: float
    at_rest: int

    @property
    def each(self) -> float:
        """All of it, by the count that is worse."""
        return max(self.maps, self.slab) + self.table


@dataclass(frozen=True, slots=True)
class Alone:
    """A case in one round. Times in ns of a packet, memory in bytes of a connection.

    Attributes:
        datapath: of l4lb.
        ns: its program.
        redirect_ns: bare XDP redirect, the same packets; None for tc.
        restore_ns: what was subtracted from both.
        memory: None with too few flows to tell.
    """

    round: int
    datapath: str
    case: Case
    ns: float
    redirect_ns: float | None
    restore_ns: float
    memory: Memory | None


def measure(
    cables: Cables,
    datapaths: Sequence[str],
    cases: Sequence[Case],
    rounds: int,
    progress: Callable[[str], None],
) -> Iterator[Alone]:
    """All cases in every round, each with an l4lb and connections of its own.

    Raises:
        BenchError: its program does not forward these packets.
        LabError: l4lb does not start.
    """
    turns = [(datapath, case) for datapath in datapaths for case in cases]
    for number in range(rounds):
        for datapath, case in rotated(turns, number):
            progress(
                f"round {number + 1}, {datapath} alone, {case.flows} flows, "
                f"{case.backends} backends, {case.services} services"
            )
            yield _one(cables, number + 1, datapath, case)


def _one(cables: Cables, number: int, datapath: str, case: Case) -> Alone:
    each = [f"{address}:{_BACKEND_PORT}" for address in backends(case.backends)]
    services = [Served(f"s{port}", _FIRST_PORT + port, each) for port in range(case.services)]
    destination = Endpoint.parse(f"{cables.vip}:{_FIRST_PORT}")
    limit = max(_LIMIT, case.flows)
    text = config_text(datapath, cables.vip, services, established=limit)
    with running(cables, datapath, text) as control:
        maps, slab = _locked(control.pins), _slab()
        with ready(cables) as generator:
            generator.connect(destination, case.flows, case.services)
        memory = None
        if case.flows >= _ENOUGH:
            at_rest = sum(maps.values())
            memory = Memory(
                (sum(_locked(control.pins).values()) - at_rest) / case.flows,
                (_slab() - slab) / case.flows,
                maps[_TABLE] / limit,
                at_rest,
            )
        macs = GATEWAY_MACS[0], CLIENT_MAC
        order = Order(macs, destination, tcp.ACK, case.flows, case.services, shuffled=True)
        attached = (closing(_attached(control.pins, name)) for name in (datapath, "tc"))
        with next(attached) as program, next(attached) as tc:
            return Alone(number, datapath, case, *_times(cables, datapath, program, tc, order), memory)


class _Runner:
    """Runs programs on the packets of an order, one flow's after the other; in the gateway's namespace
    only, where its interface is and the ways on."""

    def __init__(self, restore: Object, datapath: str, tc: Program, order: Order) -> None:
        """Args:
        restore: what restore.c is in the kernel.
        datapath: of the programs.
        tc: finds next hops, which run out after ten seconds, for the XDP program in front of it.
        """
        interface = socket.if_nametoindex("eth0")
        self._frame = order.frame()
        self._sk_buff = sk_buff(interface)
        self._context = context(FRAME, interface) if datapath == "xdp" else self._sk_buff
        self._restore = restore.programs[f"restore_{datapath}"]
        self._under_test = restore.maps[f"{datapath}_under_test"]
        self._finder = restore.programs["restore_tc"]
        restore.maps["orders"].update(_KEY, order.pack())
        restore.maps["tc_under_test"].update(_KEY, tc.fd.to_bytes(4, sys.byteorder))

    def run(self, target: Program | None, repeat: int) -> TestRun:
        """Restore a packet and run a program on it, so many times; None: restore alone."""
        if target is None:
            self._under_test.delete(_KEY)
        else:
            self._under_test.update(_KEY, target.fd.to_bytes(4, sys.byteorder))
        # At TC the kernel has looked at the Ethernet header before any program runs.
        return self._restore.test_run(self._frame, ctx=self._context, repeat=repeat)

    def find_hops(self) -> None:
        """Let ``tc`` see packets of many flows."""
        self._finder.test_run(self._frame, ctx=self._sk_buff, repeat=_ENOUGH)


def _times(
    cables: Cables, datapath: str, program: Program, tc: Program, order: Order
) -> tuple[float, float | None, float]:
    """Of the program, of bare redirect, of restoring alone: ns, medians of repeats in turns."""
    with (
        loaded("restore", cables.directory) as restore,
        configured(cables) as bare,
        entered(cables.gateway),
        on_one_core(),
    ):
        runner = _Runner(restore, datapath, tc, order)
        _see_all_sent_on(runner, datapath, program, order.flows)
        targets = {"program": program, "restore": None}
        if datapath == "xdp":
            targets["redirect"] = bare.programs["redirect"]
        took: dict[str, list[float]] = {name: [] for name in targets}
        for _ in range(_REPEATS):
            runner.find_hops()
            for name, target in targets.items():
                took[name].append(runner.run(target, _RUNS).duration_ns)
    alone = median(took["restore"])
    redirect = median(took["redirect"]) - alone if "redirect" in took else None
    return median(took["program"]) - alone, redirect, alone


def _see_all_sent_on(runner: _Runner, datapath: str, program: Program, flows: int) -> None:
    """See that what is going to be timed is the way of an established packet.

    Raises:
        BenchError: it is not; says what becomes of the packets.
    """
    # Where a neighbour or route changes meanwhile, the XDP program finds its hops again, and leaves
    # one of those packets a second to the kernel, which is to know that the neighbour is in use.
    for _ in range(_TRIES):
        runner.find_hops()
        verdicts = Counter(runner.run(program, 1).retval for _ in range(_TRIALS))
        if set(verdicts) == {_REDIRECT[datapath]}:
            return
    raise BenchError(
        f"{datapath} does not send on all packets of {flows} established connections: "
        f"its verdicts are {dict(verdicts)}"
    )


def _attached(pins: Path, datapath: str) -> Program:
    """The program that l4lb has attached.

    Raises:
        BenchError: there is none.
    """
    hook = {"tc": "tcx", "xdp": "xdp"}[datapath]
    for path in pins.glob(f"l4lb/*/*/links/{hook}-*"):
        with closing(Link.from_pin(path)) as link:
            return Program.from_id(link.info().program_id)
    raise BenchError(f"l4lb has pinned no link of {hook}, which has to be there from Linux 6.6 on")


def _locked(pins: Path) -> dict[str, int]:
    """Name -> bytes of every pinned map."""
    sizes = {}
    for path in sorted(pins.glob("l4lb/*/*/maps/*")):
        opened = Map.from_pin(path)
        lines = Path(f"/proc/self/fdinfo/{opened.fd}").read_text().splitlines()
        opened.close()
        fields = dict(line.split(":", 1) for line in lines)
        sizes[path.name] = int(fields["memlock"])
    return sizes


def _slab() -> int:
    """Bytes of what the kernel makes itself and cannot give back."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["SUnreclaim"].split()[0]) << 10
