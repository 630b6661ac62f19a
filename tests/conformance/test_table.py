"""The packet-case table on the pure core, and the table itself."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6ExtHdrFragment

from l4lb.model import Verdict
from tests.conformance import cases
from tests.conformance.case import Frame, Need, Send, all_cases
from tests.conformance.engines.fast import FastEngine
from tests.conformance.engines.pure import PureEngine
from tests.conformance.run import Mismatch, run
from tests.conformance.world import side_of

CASES = all_cases()
NAMES = {f"{case.topic}.{case.name}" for case in CASES}

# Section 7 of the design, corner by corner, and the case or cases that name each.
CORNERS = {
    "ICMP errors, from the backends' side": "icmp_to_client.too_big_from_a_router",
    "ICMP errors, from the clients' side": "icmp_to_backend.too_big_from_a_router",
    "quoted checksum": "icmp_to_client.quotes_of_every_length",
    "only 8 quoted L4 bytes": "icmp_to_client.only_eight_bytes_quoted",
    "TTL exceeded": "icmp_to_client.time_exceeded_from_a_router",
    "fragmentation needed/packet too big": "errors_sent.too_big_for_the_backend_is_answered",
    "fragments in order": "fragments.in_order",
    "fragments out of order": "fragments.out_of_order",
    "IP options": "translation.ip_options",
    "VLAN": "not_ours.vlan_tagged",
    "priority without a VLAN": "translation.priority_tagged",
    "Ethernet trailers": "translation.ethernet_trailer",
    "TTL/hop limit decrement": "errors_sent.ttl_of_two_is_enough",
    "and its ICMP error": "errors_sent.ttl_exceeded_is_answered",
    "RST only counts with an acceptable sequence number": "resets.rst_with_a_wrong_number",
    "port reuse in TIME_WAIT": "tcp_states.port_reuse_in_time_wait",
    "simultaneous close": "tcp_states.simultaneous_close",
    "half-open reset": "resets.half_open_reset_by_the_client",
    "SYN to a dead backend": "backends.syn_to_a_dead_backend_is_rescheduled",
    "a packet of a connection whose backend died": "backends.down_and_the_client_speaks",
    "an unknown mid-stream packet": "pickup.from_the_client_by_maglev",
    "hairpin": "full_nat.a_client_among_the_backends",
    "idle timeout of established TCP": "timeouts.idle_established_connection",
    "table full: new refused": "limits.established_full",
    "table full: established untouched": "limits.a_flood_leaves_established_connections_alone",
    "UDP without checksum": "checksums.udp_without_checksum",
    "IPv6 extension headers": "translation.extension_headers",
    "zero-window and out-of-window packets": "translation.zero_window_and_out_of_window",
}


@pytest.mark.parametrize("engine", [PureEngine, FastEngine], ids=lambda engine: engine.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case, engine):
    run(case, engine())


@pytest.mark.parametrize("corner", CORNERS)
def test_every_corner_of_the_design_has_a_case(corner):
    assert CORNERS[corner] in NAMES


def test_names_are_unique():
    assert len({str(case) for case in CASES}) == len(CASES)


def test_every_case_says_what_it_is_about():
    assert [str(case) for case in CASES if not case.about] == []


@pytest.mark.parametrize(("name", "packets"), [("a_tcp_connection", 3), ("a_udp_flow", 2)])
def test_the_fast_path_takes_established_packets(name, packets):
    """Or running the table on it would show nothing."""
    case = next(case for case in CASES if case.name == name and case.topic == "translation")
    engine = FastEngine()
    run(case, engine)
    assert engine.taken == packets


def test_an_engine_that_does_something_else_is_found_out():
    """One bit, in the last byte of each frame that comes out."""

    class Wrong(PureEngine):
        def send(self, frame, side):
            result = super().send(frame, side)
            return type(result)(
                result.verdict,
                [(out, frame[:-1] + bytes([frame[-1] ^ 1])) for out, frame in result.out],
                result.reasons,
                result.handed_back,
            )

    forwarding = [
        case
        for case in CASES
        if any(isinstance(step, Send) and step.verdict is Verdict.FORWARD for step in case.play()[1])
    ]
    for case in forwarding:
        with pytest.raises(Mismatch):
            run(case, Wrong())


def test_expectations_do_not_come_from_the_code_under_test():
    """Cases and the notation may use the words of l4lb, and what makes plans; nothing that reads,
    changes or makes packets."""
    allowed = ("l4lb.model", "l4lb.control")
    notation = Path(cases.__path__[0]).parent
    for path in [*notation.glob("cases/*.py"), *map(notation.joinpath, ("packets.py", "exchanges.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert all(name.startswith(allowed) for name in names if name.startswith("l4lb")), path


def _identification(frame):
    packet = frame.dissected
    if isinstance(packet, IP):
        return packet.id if packet.frag or packet.flags.MF else None
    fragment = packet.getlayer(IPv6ExtHdrFragment)
    return fragment.id if fragment is not None else None


def test_cases_share_no_fragments():
    """A live datapath remembers datagrams for half a minute, over many cases."""
    users = defaultdict(set)
    for case in CASES:
        for step in case.play()[1]:
            if isinstance(step, Send) and isinstance(step.packet, Frame) and step.packet.source:
                number = _identification(step.packet)
                if number is not None:
                    users[number].add((case.topic, case.name))
    assert users
    assert {number: names for number, names in users.items() if len(names) > 1} == {}


def test_cases_share_no_direct_connections():
    """It also remembers for long which connections clients have to a backend itself."""
    users = defaultdict(set)
    for case in CASES:
        if Need.HELD_SWEEP in case.needs:
            continue
        for step in case.play()[1]:
            if not isinstance(step, Send) or step.verdict is not Verdict.PASS or not step.host:
                continue
            packet = step.packet.dissected
            if packet.haslayer("TCP") and side_of(packet.src) is not side_of(packet.dst):
                users[frozenset(((packet.src, packet.sport), (packet.dst, packet.dport)))].add(case.name)
    assert users
    assert {ends: names for ends, names in users.items() if len(names) > 1} == {}
