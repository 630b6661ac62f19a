"""The packets of a SYN probe, read by scapy and by the kernel's filter machine as data."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from l4lb.health.probes.segments import Segment, segment, sent_sequence, syn
from l4lb.model import Endpoint

V4, V6 = Endpoint.parse("10.2.0.11:80"), Endpoint.parse("[2001:db8:2::b]:443")
OURS = {4: ipaddress.ip_address("10.2.0.1").packed, 6: ipaddress.ip_address("2001:db8:2::1").packed}
LAYER = {4: IP, 6: IPv6}


@pytest.mark.parametrize("target", [V4, V6], ids=str)
@pytest.mark.parametrize(("port", "sequence"), [(40_000, 1), (65_535, 0xFFFF_FFFF), (1, 0)])
def test_the_syn_is_whole_and_its_sums_are_right(target, port, sequence):
    packet = LAYER[target.version](syn(OURS[target.version], target, port, sequence))
    tcp = packet[TCP]
    assert (packet.src, packet.dst) == (
        str(ipaddress.ip_address(OURS[target.version])),
        target.host,
    )
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.flags) == (port, target.port, sequence, "S")
    sums = [layer.chksum for layer in (packet, tcp) if hasattr(layer, "chksum")]
    rebuilt = packet.copy()
    for layer in (rebuilt, rebuilt[TCP]):
        if hasattr(layer, "chksum"):
            del layer.chksum
    rebuilt = LAYER[target.version](bytes(rebuilt))
    assert sums == [layer.chksum for layer in (rebuilt, rebuilt[TCP]) if hasattr(layer, "chksum")]


def test_a_syn_that_comes_back_with_its_send_time_is_known_by_its_sequence_number():
    ethernet = bytes(14)
    assert sent_sequence(ethernet + syn(OURS[4], V4, 40_000, 77)) == 77
    assert sent_sequence(b"short") is None


@pytest.mark.parametrize("options", [[], [("MSS", 1460), ("NOP", None)]], ids=["plain", "options"])
def test_what_a_raw_socket_read(options):
    tcp = TCP(sport=80, dport=40_000, seq=5, ack=6, flags="SA", options=options)
    four = bytes(IP(src=V4.host, dst="10.2.0.1", options=[b"\x01"] * 4 if options else []) / tcp)
    assert segment(four, V4.ip) == Segment(V4, 40_000, 5, 6, 0x12)
    source = Endpoint(V6.ip, 80)
    six = bytes(IPv6(src=V6.host, dst="2001:db8:2::1") / tcp)[40:]
    assert segment(six, source.ip) == Segment(source, 40_000, 5, 6, 0x12)


@given(data=st.binary(max_size=80), source=st.sampled_from([V4.ip, V6.ip]))
def test_whatever_was_read_is_a_segment_or_nothing(data, source):
    found = segment(data, source)
    assert found is None or (found.source.ip == source and 0 <= found.flags < 64)


@pytest.mark.parametrize("length", [0, 1, 19, 20, 39])
def test_what_is_cut_short_is_nothing(length):
    whole = bytes(IP(src=V4.host, dst="10.2.0.1") / TCP(flags="SA"))
    assert segment(whole[:length], V4.ip) is None
    assert segment(whole[20:][: min(length, 19)], V6.ip) is None
