"""A run in the words of the packet-case table, to be pasted there, named and explained.

What the case expects is what the reference does.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from l4lb.model import Costs, DropReason, Endpoint, Limits, Nat, Plan, ServicePlan, Table, Verdict
from tests.conformance.engines.engine import Result
from tests.conformance.packets import ETHERNET, IPV4, IPV6, VNET, Frame
from tests.conformance.world import NETS, Host, side_of
from tests.differential.steps import Packet, Replan, Run, Step, Subject, Wait, begin, take

_NAMES: Final = {
    Verdict.FORWARD: "forward",
    Verdict.REPLY: "reply",
    Verdict.DROP: "drop",
    Verdict.PASS: "leave",
}


def as_case(run: Run, reference: Subject, what: str) -> str:
    """Python source."""
    version = run.plan.services[0].address.version
    lines = [
        f"@packet_case(V{version})",
        "def to_be_named(net):",
        '    """To be explained: why this is right."""',
        f"    first = {_plan(run.plan)}",
        "    return first, [",
    ]
    begin(reference, run.plan)
    for step in run.steps:
        lines += [f"        {line}" for line in _step(step, take(reference, step))]
    rows = sorted(
        f"Row({_host(row.client)}, {_host(row.backend)}, State.{row.state.name}, {_host(row.source)})"
        for row in reference.connections()
        if row.source is not None
    )
    lines += [f"        table({', '.join(rows)}),", "    ]", *(f"# {line}" for line in what.splitlines())]
    return "\n".join(lines)


def _step(step: Step, result: Result) -> Iterator[str]:
    if isinstance(step, Wait):
        yield f"wait({', '.join([str(step.seconds), *map(_reason, result.reasons.elements())])}),"
    elif isinstance(step, Replan):
        yield f"change({_plan(step.plan)}),"
        if step.forget:
            yield "# connections of what went away are forgotten"
    else:
        yield from _send(step, result)


def _send(step: Packet, result: Result) -> Iterator[str]:
    packet, expression = _frame(step.frame)
    yield f"# {_summary(packet)}"
    arguments = [expression]
    for _, frame in result.out:
        out, expression = _frame(frame)
        arguments.append(expression)
        yield f"# -> {_summary(out)}"
    if result.verdict in (Verdict.DROP, Verdict.REPLY):
        arguments[1:1] = [_reason(reason) for reason in result.reasons]
    if packet.source is None or side_of(packet.source) not in (None, step.side):
        arguments.append(f"side=Side.{step.side.name}")
    assert result.verdict is not None
    yield f"{_NAMES[result.verdict]}({', '.join(arguments)}),"


def _frame(wire: bytes) -> tuple[Frame, str]:
    """A frame in the table's words; a trailer is part of the bytes."""
    ethertype = int.from_bytes(wire[VNET + 12 : VNET + ETHERNET], "big")
    packet = wire[VNET + ETHERNET :]
    name = {IPV4: "IPV4", IPV6: "IPV6"}.get(ethertype, hex(ethertype))
    start = packet.rstrip(packet[-1:])
    rest, text = len(packet) - len(start), f'bytes.fromhex("{packet.hex()}")'
    if rest > 16:
        text = f'bytes.fromhex("{start.hex()}") + {packet[-1:]!r} * {rest}'
    return Frame(packet, ethertype), f"Frame({text}, {name})"


def _summary(frame: Frame) -> str:
    try:
        return str(frame.dissected.summary())
    except Exception as problem:  # what is damaged enough scapy cannot read
        return f"unreadable: {problem}"


def _reason(reason: DropReason) -> str:
    return f"DropReason.{reason.name}"


def _host(host: Host) -> str:
    """By its name in world.py."""
    for net in NETS:
        for name in ("client", "second", "narrow", "far", "vip", "web1", "web2", "slim", "wan"):
            known: Host = getattr(net, name)
            if known.ip == host.ip:
                return f"net.{name}" if known.port == host.port else f"net.{name}.at({host.port})"
    return repr(host)


def _plan(plan: Plan) -> str:
    services = ", ".join(_service(service) for service in plan.services)
    limits = "" if plan.limits == Limits() else f", limits=Limits(established={plan.limits.established})"
    return f"plan({services}{limits}, timeouts={plan.timeouts!r}, snat_ports={plan.snat_ports})"


def _service(service: ServicePlan) -> str:
    def host(address: Endpoint) -> str:
        return _host(Host(str(ip_address(address.ip)), address.port))

    selection = service.selection
    if isinstance(selection, Table):
        chosen = f"Table(Key.{selection.key.name}, {selection.slots})"
    else:
        assert isinstance(selection, Costs)
        chosen = f"Costs({selection.costs})"
    words = ["net", *(host(backend.address) for backend in service.backends)]
    words += [f"vip={host(service.address)}", f"protocol={service.protocol.name}", f"selection={chosen}"]
    down = [host(backend.address) for backend in service.backends if not backend.alive]
    if down:
        words.append(f"down=[{', '.join(down)}]")
    if service.nat is Nat.FULL:
        words.append("nat=FULL")
    if service.affinity_timeout:
        words.append(f"affinity={service.affinity_timeout}")
    words.append(f"when_down=WhenBackendDown.{service.when_backend_down.name}")
    return f"service({', '.join(words)})"
