"""IPv4 and IPv6 headers, held against scapy."""

import ipaddress

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from l4lb.wire import ipv4, ipv6
from l4lb.wire.checksum import checksum, delta, ones_sum
from l4lb.wire.ipv6 import Chain, walk

SOURCE, DESTINATION = bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2])
SOURCE6, DESTINATION6 = (bytes.fromhex("20010db8") + bytes(11) + last for last in (b"\1", b"\2"))
UDP_HEADER = bytes(UDP(sport=1, dport=2, len=8, chksum=0))


class TestIpv4:
    def test_a_packet_is_what_scapy_builds(self):
        built = ipv4.build(SOURCE, DESTINATION, 17, UDP_HEADER, ttl=9, identification=77)
        head = IP(src="192.0.2.1", dst="198.51.100.2", ttl=9, id=77, flags="DF", proto=17)
        assert built == bytes(head / Raw(UDP_HEADER))

    @pytest.mark.parametrize("ttl", [255, 64, 2, 1])
    @pytest.mark.parametrize("options", [b"", bytes([1] * 8)])
    def test_rewriting_keeps_the_checksum_right(self, ttl, options):
        new = bytes([10, 0, 0, 1])
        head = IP(src="192.0.2.1", dst="198.51.100.2", ttl=ttl, proto=17)
        header = bytearray(bytes(head)[:20] + options)
        header[0] = 0x40 | len(header) // 4
        header[10:12] = bytes(2)
        header[10:12] = checksum(header).to_bytes(2, "big")
        frame = bytearray(24) + header
        frame[40:44] = new
        ipv4.rewrite(frame, 24, delta(DESTINATION, new) + ipv4.TTL_DECREMENT)
        assert frame[32] == ttl - 1
        assert ones_sum(frame[24:]) == 0xFFFF

    @pytest.mark.parametrize(
        ("address", "possible"),
        [
            ("0.0.0.0", False),
            ("0.255.255.255", False),
            ("1.0.0.0", True),
            ("126.255.255.255", True),
            ("127.0.0.1", False),
            ("128.0.0.1", True),
            ("223.255.255.255", True),
            ("224.0.0.1", False),
            ("239.255.255.250", False),
            ("255.255.255.255", False),
        ],
    )
    def test_sources(self, address, possible):
        assert ipv4.can_be_source(ipaddress.ip_address(address).packed) is possible


class TestIpv6:
    def test_a_packet_is_what_scapy_builds(self):
        built = ipv6.build(SOURCE6, DESTINATION6, 17, UDP_HEADER, hop_limit=9)
        assert built == bytes(IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=9, nh=17) / Raw(UDP_HEADER))

    @pytest.mark.parametrize(
        ("address", "possible"),
        [
            ("::", False),
            ("::1", False),
            ("::2", True),
            ("ff02::1", False),
            ("fe80::1", True),
            ("2001:db8::", True),
        ],
    )
    def test_sources(self, address, possible):
        assert ipv6.can_be_source(ipaddress.ip_address(address).packed) is possible


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("fe80::1", True),
        ("febf:ffff::1", True),
        ("fe7f::1", False),
        ("fec0::1", False),
        ("ff80::1", False),
        ("2001:db8::fe80", False),
    ],
)
def test_link_local(address, local):
    assert ipv6.is_link_local(ipaddress.ip_address(address).packed) is local


def option(after, length=0):
    """A destination options header, ``length`` times eight bytes longer than the shortest."""
    return bytes([after, length]) + bytes(6 + 8 * length)


def fragment(after, offset, *, more=False, number=7):
    return bytes([after, 0]) + (offset | more).to_bytes(2, "big") + number.to_bytes(4, "big")


class TestWalk:
    @pytest.mark.parametrize(
        ("first", "headers", "expected"),
        [
            (6, b"", Chain(6, 10)),
            (59, b"", Chain(59, 10)),
            (50, b"", Chain(50, 10)),
            (0, option(6), Chain(6, 18)),
            (43, option(6, 2), Chain(6, 34)),
            (60, option(0) + option(17), Chain(17, 26)),
            (44, fragment(6, 0), Chain(6, 18, True, 0, False, 7)),
            (44, fragment(6, 0, more=True), Chain(6, 18, True, 0, True, 7)),
            (44, fragment(6, 8), Chain(6, 18, True, 8, False, 7)),
            (60, option(44) + fragment(17, 0, more=True), Chain(17, 26, True, 0, True, 7)),
            (44, fragment(60, 0, more=True) + option(6), Chain(6, 26, True, 0, True, 7)),
        ],
    )
    def test_to_its_end(self, first, headers, expected):
        frame = bytearray(10) + headers
        assert walk(frame, 10, first, len(frame)) == expected

    def test_behind_the_header_of_a_later_fragment_is_payload(self):
        frame = bytearray(fragment(60, 8) + b"\xff" * 16)
        assert walk(frame, 0, 44, len(frame)) == Chain(60, 8, True, 8, False, 7)

    @pytest.mark.parametrize(
        ("first", "headers"),
        [
            (60, option(6)[:7]),
            (60, option(6, 1)[:15]),
            (60, option(60) + option(6)[:4]),
            (44, fragment(6, 0)[:7]),
            (44, fragment(44, 0) + fragment(6, 0)),
            (60, option(60) * 9),
            (0, b""),
        ],
    )
    def test_malformed(self, first, headers):
        frame = bytearray(headers)
        assert walk(frame, 0, first, len(frame)) is None

    def test_it_does_not_look_behind_the_end(self):
        frame = bytearray(option(60) + option(6))
        assert walk(frame, 0, 60, 8) is None
        assert walk(frame, 0, 60, 16) == Chain(6, 16)
