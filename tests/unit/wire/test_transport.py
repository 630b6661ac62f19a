"""What stands in TCP and ICMP headers, held against scapy."""

import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from l4lb.wire import icmp, tcp

ENDS = bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2])
ENDS6 = tuple(bytes.fromhex("20010db8") + bytes(11) + last for last in (b"\1", b"\2"))


class TestSegment:
    def test_is_what_scapy_builds(self):
        built = tcp.build(*ENDS, 80, 4000, tcp.RST | tcp.ACK, sequence=7, acknowledgement=9)
        head = IP(src="192.0.2.1", dst="198.51.100.2")
        theirs = head / TCP(sport=80, dport=4000, flags="RA", seq=7, ack=9, window=0)
        assert built == bytes(theirs)[20:]

    def test_of_ipv6(self):
        built = tcp.build(*ENDS6, 80, 4000, tcp.RST, sequence=0xFFFF_FFFF)
        head = IPv6(src="2001:db8::1", dst="2001:db8::2")
        assert built == bytes(head / TCP(sport=80, dport=4000, flags="R", seq=0xFFFF_FFFF, window=0))[40:]


class TestFlags:
    def test_valid_ones_are_those_of_conntrack(self):
        """``tcp_valid_flags`` of nf_conntrack_proto_tcp.c, PSH left out."""
        names = ["S", "SU", "SA", "R", "RA", "FA", "FAU", "A", "AU"]
        bits = {"F": 1, "S": 2, "R": 4, "A": 16, "U": 32}
        assert {sum(bits[letter] for letter in name) for name in names} == tcp.VALID_FLAGS

    def test_those_that_matter_are_all_but_push(self):
        assert tcp.FLAGS_THAT_MATTER == 0x3F & ~tcp.PSH


class TestWindowScale:
    @pytest.mark.parametrize(
        ("options", "scale"),
        [
            (b"", None),
            (b"\3\3\7", 7),
            (b"\3\3\0", 0),
            (b"\3\3\x0e", 14),
            (b"\3\3\xff", 14),
            (b"\1\1\3\3\2", 2),
            (b"\2\4\5\xb4\3\3\5", 5),
            (b"\0\3\3\7", None),
            (b"\3\2", None),
            (b"\3\4\7\7", None),
            (b"\3\3", None),
            (b"\3", None),
            (b"\2\0\3\3\7", None),
            (b"\2\1\3\3\7", None),
            (b"\2\xff\3\3\7", None),
            (b"\3\3\7\3\3\1", 7),
        ],
    )
    def test_is_found_or_not(self, options, scale):
        frame = bytearray(5) + options + b"\3\3\1"  # what is behind the end does not count
        assert tcp.window_scale(frame, 5, 5 + len(options)) == scale

    def test_among_what_real_systems_send(self):
        options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 9)]
        segment = bytearray(bytes(TCP(flags="S", options=options)))
        assert tcp.window_scale(segment, 20, len(segment)) == 9


class TestErrors:
    def test_are_what_scapy_builds(self):
        built = icmp.build_error(*ENDS, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED, 1400, b"quoted")
        head = IP(src="192.0.2.1", dst="198.51.100.2", flags="DF", id=0)
        assert built == bytes(head / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(b"quoted"))

    def test_of_ipv6(self):
        built = icmp.build_error(*ENDS6, icmp.PACKET_TOO_BIG_V6, 0, 1400, b"quoted")
        head = IPv6(src="2001:db8::1", dst="2001:db8::2")
        assert built == bytes(head / ICMPv6PacketTooBig(mtu=1400) / Raw(b"quoted"))

    @pytest.mark.parametrize(("ends", "length"), [(ENDS, 576), (ENDS6, 1280)], ids=["IPv4", "IPv6"])
    def test_never_longer_than_the_rfcs_allow(self, ends, length):
        """RFC 1812 4.3.2.3, RFC 4443 2.4 (c)."""
        assert len(icmp.build_error(*ends, 1, 0, 0, bytes(5000))) == length

    def test_the_header_is_eight_bytes(self):
        assert icmp.HEADER.size == icmp.SIZE == struct.calcsize("!BBHI")
