"""Run one packet case on an engine, and say in words where it went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import hexdump

from l4lb.model import DropReason, Verdict
from tests.conformance.case import (
    Case,
    Chosen,
    Decisions,
    Measured,
    Remembered,
    Row,
    Send,
    Step,
    Sweep,
    Table,
    Traffic,
    Wire,
)
from tests.conformance.engines.engine import Engine
from tests.conformance.packets import ETHERNET, IPV4, IPV6, VLAN, VNET, Frame, Vnet
from tests.conformance.world import GATEWAY_MAC, Side, route, side_of


class Mismatch(AssertionError):
    """The engine does something else than the table says."""


def run(case: Case, engine: Engine) -> None:
    """Play the case from a clean start.

    Raises:
        Mismatch: says at which step, and what was different.
    """
    plan, steps = case.play()
    engine.reset()
    engine.configure(plan)
    engine.sweep(0.0, 0)  # with nothing to find: what a later change starts must be its own
    play = _Play(engine)
    for number, step in enumerate(steps, start=1):
        try:
            play.step(step)
        except AssertionError as problem:
            raise Mismatch(
                f"{case} on {engine.name}, step {number} of {len(steps)}: {problem}\n\n{case.about}"
            ) from None


class _Play:
    """One case under way, and the port that the engine chose in it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._port: int | None = None

    def step(self, step: Step) -> None:
        match step:
            case Send():
                self._send(step)
            case Sweep():
                result = self._engine.sweep(step.seconds, len(step.out))
                self._compare_out(result.out, step.out, ())
                _compare("the reasons", result.reasons, Counter(step.reasons))
            case Table():
                self._compare_table(step)
            case Traffic():
                _compare("what is counted", self._engine.traffic(step.backend), step)
            case Measured():
                learnt = self._engine.measured(step.backend)
                _compare("what is learnt", learnt, step)
                assert learnt.close_to(step), f"learnt was {learnt}, expected {step}"
            case Decisions():
                _compare("what is kept of decisions", tuple(self._engine.decisions()), step.kept)
            case Remembered():
                known = self._engine.recall(step.service, step.client)
                _compare("what is remembered", known, step)
                assert step.left in (None, known.left), f"it counts for {known.left} s, not {step.left}"
            case _:
                self._engine.configure(step.plan)

    def _send(self, step: Send) -> None:
        packet = self._frame(step.packet)
        source = packet.source
        side = step.side or (side_of(source) if source else None) or Side.CLIENTS
        peer = route(source) if source else None
        # What is from nowhere, or claims to be from the gateway itself, comes from a stranger.
        source_mac = peer.mac if peer is not None and peer.side is side else "02:00:00:00:01:99"
        result = self._engine.send(packet.on_wire(source_mac, GATEWAY_MAC[side]), side)
        if step.or_pass and result.verdict is Verdict.PASS:
            _compare("the reasons", result.reasons, Counter())
        else:
            reasons = Counter({DropReason.HALF_OPEN_EVICTED: step.evicts} if step.evicts else ())
            if step.reason is not None:
                reasons[step.reason] += 1
            _compare("the verdict", result.verdict, step.verdict)
            _compare("the reasons", result.reasons, reasons)
        self._compare_out(result.out, step.out, () if result.handed_back is not None else step.host)
        if result.handed_back is not None:
            expected = [frame.on_wire(source_mac, GATEWAY_MAC[side]) for frame in step.handed_back]
            _compare("the frames handed back", list(result.handed_back), expected)

    def _frame(self, wire: Wire) -> Frame:
        if isinstance(wire, Frame):
            return wire
        assert self._port is not None, "the case uses a port that was not chosen yet"
        return wire.make(self._port)

    def _compare_out(
        self, out: Sequence[tuple[Side, bytes]], expected: Iterable[Wire], host: Iterable[Frame]
    ) -> None:
        """Frames by side: between the sides, and between l4lb and the host, there is no order."""
        rest = {side: [frame for found, frame in out if found is side] for side in Side}
        for frame in host:
            side, wanted = self._wanted(frame)
            got = next((f for f in rest[side] if _same_for_host(f, wanted)), None)
            assert got is not None, f"the host did not send {_text(frame.packet)} by {side.value}"
            rest[side].remove(got)
        for wire in expected:
            if isinstance(wire, Chosen) and self._port is None:
                self._learn(wire, rest)
            side, wanted = self._wanted(self._frame(wire))
            assert rest[side], f"nothing came out by {side.value}, expected {_text(_packet(wanted))}"
            _compare_frames(rest[side].pop(0), wanted)
        for side, frames in rest.items():
            if frames:
                raise AssertionError(
                    f"more came out by {side.value}: " + ", ".join(_text(_packet(f)) for f in frames)
                )

    @staticmethod
    def _wanted(frame: Frame) -> tuple[Side, bytes]:
        """Where a packet should come out, between which Ethernet addresses."""
        hop = route(frame.dissected.dst)
        assert hop is not None, f"the case expects a packet that has no route: {_text(frame.packet)}"
        return hop.side, frame.on_wire(GATEWAY_MAC[hop.side], hop.mac)

    def _learn(self, wire: Chosen, rest: dict[Side, list[bytes]]) -> None:
        frames = [frame for frames in rest.values() for frame in frames]
        assert len(frames) == 1, f"{len(frames)} frames came out where one shows a chosen port"
        port: int = Ether(frames[0][VNET:]).sport
        assert port in wire.among, f"source port {port} is not in {wire.among}"
        self._port = port

    def _compare_table(self, step: Table) -> None:
        rows = [row if isinstance(row, Row) else self._row(row) for row in step.rows]
        _compare("the connection table", _rows(self._engine.connections()), _rows(rows))

    def _row(self, make: Callable[[int], Row]) -> Row:
        assert self._port is not None, "the case uses a port that was not chosen yet"
        return make(self._port)


def _rows(rows: Iterable[Row]) -> list[str]:
    return sorted(
        f"{row.client} {row.source or row.client} {row.backend} {row.state.label}" for row in rows
    )


def _compare(what: str, got: object, wanted: object) -> None:
    assert got == wanted, f"{what}: {_show(got)}, expected {_show(wanted)}"


def _show(value: object) -> str:
    if isinstance(value, Counter):
        return ", ".join(f"{key.label} x{count}" for key, count in value.items()) or "none"
    if isinstance(value, Verdict | DropReason):
        return value.name
    return str(value)


# -- frames ----------------------------------------------------------------------------------------


def _packet(frame: bytes) -> bytes:
    """From the IP header on."""
    return frame[VNET + ETHERNET :]


def _without_host_choices(frame: bytes) -> bytes:
    """Without what a host's stack is free to choose: identification, DF, TOS, flow label, the sum over
    them, and whether it leaves the transport checksum to the receiver."""
    ether = Ether(frame[VNET:])
    packet = ether.payload
    if isinstance(packet, IP):
        packet.id, packet.flags, packet.tos, packet.chksum = 0, 0, 0, 0
    else:
        packet.fl = packet.tc = 0
    if Vnet.read(frame[:VNET]).partial:
        del packet.payload.chksum  # of TCP or UDP: scapy computes it
    return bytes(VNET) + bytes(ether)


def _same_for_host(got: bytes, wanted: bytes) -> bool:
    return _without_host_choices(got) == _without_host_choices(wanted)


def _compare_frames(got: bytes, wanted: bytes) -> None:
    if Vnet.read(got[:VNET]) == Vnet.read(wanted[:VNET]) and got[VNET:] == wanted[VNET:]:
        return
    lines: list[str] = [f"expected {_text(_packet(wanted))}", f"got      {_text(_packet(got))}"]
    if got[VNET:] == wanted[VNET:]:
        lines += [f"expected {Vnet.read(wanted[:VNET])}", f"got      {Vnet.read(got[:VNET])}"]
    lines += _differences(Ether(got[VNET:]), Ether(wanted[VNET:]))
    if len(got) <= 256 and len(wanted) <= 256:
        lines += ["expected bytes:", hexdump(wanted[VNET:], dump=True) or ""]
        lines += ["got bytes:", hexdump(got[VNET:], dump=True) or ""]
    raise AssertionError("another frame came out\n" + "\n".join(lines))


def _differences(got: Packet, wanted: Packet) -> list[str]:
    """The fields in which two packets differ, layer by layer."""
    lines: list[str] = []
    while got and wanted:
        if type(got) is not type(wanted):
            return [*lines, f"  {wanted.name}: got {got.name}"]
        for field in wanted.fields_desc:
            here, there = got.getfieldval(field.name), wanted.getfieldval(field.name)
            if here != there:
                lines.append(f"  {wanted.name} {field.name}: got {here!r:.200}, expected {there!r:.200}")
        got, wanted = got.payload, wanted.payload
    return lines


def _text(packet: bytes) -> str:
    """A packet in one line."""
    version = packet[0] >> 4 if packet else 0
    ethertype = {4: IPV4, 6: IPV6}.get(version, VLAN)
    if ethertype == VLAN:
        return packet.hex()
    summary: str = Frame(packet, ethertype).dissected.summary()
    return f"{summary} ({len(packet)} bytes)"
