"""Where headers start and end, and every way in which they can be wrong."""

import struct
from dataclasses import replace

import pytest

from l4lb.director.parse import parse
from l4lb.model import DropReason, Endpoint, Verdict
from tests.unit.director.gateway import BACKEND, CLIENT, CLIENT6, VIP, VIP6, Gateway, service
from tests.unit.director.packets import (
    ACK,
    ICMP,
    ICMPV6,
    PSH,
    SYN,
    TCP,
    UDP,
    Sent,
    framed,
    icmp_error,
)

IP = 24
FOUR, SIX = (CLIENT, VIP), (CLIENT6, VIP6)
VERSIONS = [pytest.param(FOUR, id="IPv4"), pytest.param(SIX, id="IPv6")]


def parsed(frame):
    frame = frame.frame() if isinstance(frame, Sent) else frame
    return parse(frame, len(frame))


def changed(sent, *changes):
    """A frame with some bytes changed: (offset from the IP header, bytes)."""
    frame = sent.frame()
    for at, data in changes:
        frame[IP + at : IP + at + len(data)] = data
    return frame


class TestGood:
    @pytest.mark.parametrize("ends", VERSIONS)
    def test_tcp(self, ends):
        sent = Sent(
            *ends, flags=ACK | PSH, sequence=7, acknowledgement=9, options=bytes(8), payload=b"data"
        )
        packet = parsed(sent)
        assert packet.error is None
        assert packet.version == ends[0].version
        assert (packet.source, packet.sport) == (ends[0].ip, ends[0].port)
        assert (packet.destination, packet.dport) == (ends[1].ip, ends[1].port)
        assert (packet.sequence, packet.acknowledgement, packet.payload) == (7, 9, 4)
        assert packet.flags == ACK, "PSH says nothing about a connection"
        assert packet.key == sent.key
        assert packet.transport == IP + (20 if packet.version == 4 else 40)
        assert packet.end == len(sent.frame())

    @pytest.mark.parametrize("ends", VERSIONS)
    def test_udp(self, ends):
        packet = parsed(Sent(*ends, protocol=UDP, payload=b"data", ttl=3))
        assert (packet.error, packet.protocol, packet.sport, packet.ttl) == (None, UDP, ends[0].port, 3)

    @pytest.mark.parametrize("ends", VERSIONS)
    def test_a_trailer_is_cut_off(self, ends):
        sent = Sent(*ends, payload=b"x")
        assert parsed(replace(sent, trailer=bytes(18))).end == len(sent.frame())

    def test_ip_options_and_extension_headers_move_the_transport_header(self):
        assert parsed(Sent(*FOUR, ip_options=bytes([1] * 40))).transport == IP + 60
        packet = parsed(Sent(*SIX, extensions=((0, bytes(7)), (43, b"\1" + bytes(14)), (60, bytes(7)))))
        assert (packet.transport, packet.protocol, packet.error) == (IP + 40 + 32, TCP, None)

    @pytest.mark.parametrize("ends", VERSIONS)
    def test_fragments(self, ends):
        sent = Sent(*ends, protocol=UDP, payload=bytes(100), identification=77)
        first, second, third = (parsed(frame) for frame in sent.fragments(48))
        assert (first.is_fragment, first.fragment_offset, first.more_fragments) == (True, 0, True)
        assert (second.fragment_offset, second.more_fragments) == (48, True)
        assert (third.fragment_offset, third.more_fragments) == (96, False)
        assert {packet.identification for packet in (first, second, third)} == {77}
        assert first.key == sent.key
        assert second.key == third.key == b""
        assert second.sport == -1

    def test_any_other_protocol_shows_no_ports(self):
        packet = parsed(framed(Sent(*FOUR, protocol=47).around(bytes(20))))
        assert (packet.error, packet.protocol, packet.key, packet.sport) == (None, 47, b"", -1)


class TestNotIp:
    @pytest.mark.parametrize(
        "frame",
        [
            bytearray(),
            bytearray(23),
            bytearray(10) + bytes(12) + b"\x08\x06" + bytes(28),
            framed(b"\x45" + bytes(18)),
            framed(b"\x60" + bytes(38)),
            changed(Sent(*FOUR), (0, b"\x55")),
            changed(Sent(*SIX), (0, b"\x40")),
        ],
        ids=["nothing", "no header", "ARP", "short IPv4", "short IPv6", "IPv5", "IPv4 in an IPv6 frame"],
    )
    def test_it_is_the_kernels(self, frame):
        assert parsed(frame) is None

    @pytest.mark.parametrize("ends", VERSIONS)
    def test_what_is_behind_the_end_does_not_count(self, ends):
        frame = Sent(*ends).frame()
        assert parse(frame, IP + 19) is None


def fragment_at(offset, size, ends=FOUR):
    field = offset // 8 if ends is FOUR else offset
    return framed(Sent(*ends, protocol=UDP).around(bytes(size), field))


ENDLESS = ((60, bytes(7)),) * 9
BAD = {
    "the header is shorter than a header": (
        DropReason.BAD_IP_HEADER,
        changed(Sent(*FOUR), (0, b"\x44")),
    ),
    "the total length is shorter than the header": (
        DropReason.BAD_IP_HEADER,
        changed(Sent(*FOUR), (2, b"\0\x13")),
    ),
    "the total length is 0": (DropReason.BAD_IP_HEADER, changed(Sent(*FOUR), (2, b"\0\0"))),
    "IPv4 is cut off": (DropReason.TRUNCATED, Sent(*FOUR, payload=b"data").frame()[:-1]),
    "IPv6 is cut off": (DropReason.TRUNCATED, Sent(*SIX, payload=b"data").frame()[:-1]),
    "an IPv4 fragment ends beyond 64 KiB": (DropReason.BAD_IP_HEADER, fragment_at(65_528, 8)),
    "an IPv6 fragment ends beyond 64 KiB": (DropReason.BAD_EXTENSION_HEADERS, fragment_at(65_528, 8, SIX)),
    "an extension header is cut off": (
        DropReason.BAD_EXTENSION_HEADERS,
        framed(Sent(*SIX, protocol=0).around(bytes(7))),
    ),
    "an extension header is longer than the packet": (
        DropReason.BAD_EXTENSION_HEADERS,
        framed(Sent(*SIX, protocol=60).around(b"\6\2" + bytes(6))),
    ),
    "extension headers without an end": (
        DropReason.BAD_EXTENSION_HEADERS,
        Sent(*SIX, extensions=ENDLESS).frame(),
    ),
    "two fragment headers": (
        DropReason.BAD_EXTENSION_HEADERS,
        Sent(*SIX, extensions=((44, bytes(7)),) * 2).frame(),
    ),
    "TCP without a whole header": (
        DropReason.BAD_TCP_HEADER,
        framed(Sent(*FOUR).around(Sent(*FOUR).transport()[:19])),
    ),
    "TCP with an offset below five words": (DropReason.BAD_TCP_HEADER, changed(Sent(*FOUR), (32, b"\x40"))),
    "TCP with an offset beyond the packet": (
        DropReason.BAD_TCP_HEADER,
        changed(Sent(*FOUR), (32, b"\x60")),
    ),
    "TCP cut by a fragment": (DropReason.BAD_TCP_HEADER, Sent(*FOUR, payload=bytes(9)).fragments(16)[0]),
    "UDP without a whole header": (
        DropReason.BAD_UDP_HEADER,
        framed(Sent(*SIX, protocol=UDP).around(bytes(7))),
    ),
    "UDP with a length below its header": (
        DropReason.BAD_UDP_HEADER,
        changed(Sent(*FOUR, protocol=UDP), (24, b"\0\7")),
    ),
    "UDP with a length beyond the packet": (
        DropReason.BAD_UDP_HEADER,
        changed(Sent(*FOUR, protocol=UDP), (24, b"\0\x09")),
    ),
    "an ICMP error that quotes nothing": (DropReason.BAD_ICMP_HEADER, icmp_error(CLIENT.ip, VIP.ip, b"")),
    "an ICMP error that quotes too little": (
        DropReason.BAD_ICMP_HEADER,
        icmp_error(CLIENT.ip, VIP.ip, Sent(VIP, CLIENT).packet()[:27]),
    ),
    "an ICMP error that quotes IPv6": (
        DropReason.BAD_ICMP_HEADER,
        icmp_error(CLIENT.ip, VIP.ip, Sent(VIP6, CLIENT6).packet()),
    ),
    "an ICMP error that quotes a bad header": (
        DropReason.BAD_ICMP_HEADER,
        icmp_error(CLIENT.ip, VIP.ip, b"\x44" + Sent(VIP, CLIENT).packet()[1:]),
    ),
    "an ICMP error that quotes a bad length": (
        DropReason.BAD_ICMP_HEADER,
        icmp_error(CLIENT.ip, VIP.ip, b"\x45\0\0\x13" + Sent(VIP, CLIENT).packet()[4:]),
    ),
    "an ICMPv6 error that quotes too little": (
        DropReason.BAD_ICMP_HEADER,
        icmp_error(CLIENT6.ip, VIP6.ip, Sent(VIP6, CLIENT6).packet()[:47], kind=1),
    ),
    "an ICMPv6 error that quotes bad extension headers": (
        DropReason.BAD_ICMP_HEADER,
        icmp_error(
            CLIENT6.ip, VIP6.ip, Sent(VIP6, CLIENT6, extensions=((60, bytes(7)),) * 9).packet(), kind=1
        ),
    ),
}
"""(reason, frame) by what is wrong."""


@pytest.mark.parametrize(("reason", "frame"), BAD.values(), ids=BAD)
class TestBad:
    def test_it_has_its_reason(self, reason, frame):
        assert parsed(bytearray(frame)).error is reason

    def test_the_director_drops_and_counts_it(self, reason, frame):
        gateway = Gateway(service(), service(Endpoint.parse("[2001:db8:2::11]:8080"), name="six"))
        assert gateway.send(bytearray(frame)) is Verdict.DROP
        assert gateway.director.drops == {reason: 1}
        assert not gateway.director.out

    def test_of_others_it_is_left_to_the_kernel(self, reason, frame):
        gateway = Gateway(service(vip=Endpoint.parse("10.1.0.200:80")))
        assert gateway.send(bytearray(frame)) is Verdict.PASS
        assert not gateway.director.drops


NOBODY = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255"]
NOBODY6 = ["::", "::1", "ff02::1"]


class TestSources:
    @pytest.mark.parametrize("address", NOBODY + NOBODY6)
    @pytest.mark.parametrize("flags", [SYN, ACK])
    def test_what_nobody_can_have_gets_no_connection_and_no_answer(self, address, flags):
        gateway = Gateway(service(), service(Endpoint.parse("[2001:db8:2::11]:8080"), name="six"))
        source = Endpoint.parse(f"[{address}]:1" if ":" in address else f"{address}:1")
        vip = VIP if source.version == 4 else VIP6
        assert gateway.send(Sent(source, vip, flags=flags)) is Verdict.DROP
        assert gateway.director.drops == {DropReason.BAD_IP_HEADER: 1}
        assert len(gateway.director.table) == 0
        assert not gateway.director.out

    def test_the_vip_itself_does_not_talk_to_itself(self):
        """The "land" attack."""
        gateway = Gateway(service())
        assert gateway.send(Sent(VIP, VIP)) is Verdict.DROP
        assert len(gateway.director.table) == 0

    @pytest.mark.parametrize("address", ["10.1.255.255", "10.1.0.0", "240.0.0.1", "::2", "fe80::1"])
    def test_others_are_taken_as_they_are(self, address):
        source = Endpoint.parse(f"[{address}]:1" if ":" in address else f"{address}:1")
        assert parsed(Sent(source, VIP if source.version == 4 else VIP6)).error is None


class TestErrors:
    @pytest.mark.parametrize("kind", [3, 11, 12])
    def test_of_icmp(self, kind):
        packet = parsed(icmp_error(CLIENT.ip, VIP.ip, Sent(VIP, CLIENT).packet(), kind=kind))
        assert (packet.icmp_error, packet.error) == (True, None)
        quoted = packet.quoted
        assert (quoted.source, quoted.sport) == (VIP.ip, VIP.port)
        assert (quoted.destination, quoted.dport) == (CLIENT.ip, CLIENT.port)
        assert quoted.reverse_key == Sent(CLIENT, VIP).key
        assert (quoted.at, quoted.transport, quoted.end) == (IP + 28, IP + 48, packet.end)

    @pytest.mark.parametrize("kind", [1, 2, 3, 4])
    def test_of_icmpv6(self, kind):
        about = Sent(VIP6, CLIENT6, extensions=((0, bytes(7)),))
        packet = parsed(icmp_error(CLIENT6.ip, VIP6.ip, about.packet(), kind=kind))
        assert (packet.icmp_error, packet.error) == (True, None)
        assert packet.quoted.transport == IP + 48 + 48
        assert packet.quoted.reverse_key == Sent(CLIENT6, VIP6).key

    @pytest.mark.parametrize("kind", [0, 4, 5, 8, 13])
    def test_other_icmp_is_the_kernels(self, kind):
        packet = parsed(icmp_error(CLIENT.ip, VIP.ip, b"ping", kind=kind))
        assert (packet.icmp_error, packet.error, packet.quoted) == (False, None, None)

    @pytest.mark.parametrize("kind", [128, 129, 135, 136, 137])
    def test_other_icmpv6_is_the_kernels(self, kind):
        assert not parsed(icmp_error(CLIENT6.ip, VIP6.ip, b"ping", kind=kind)).icmp_error

    def test_icmp_of_the_other_version_is_not_icmp(self):
        message = struct.pack("!BBHI", 3, 1, 0, 0) + Sent(VIP, CLIENT).packet()
        assert not parsed(framed(Sent(*SIX, protocol=ICMP).around(message))).icmp_error
        assert not parsed(framed(Sent(*FOUR, protocol=ICMPV6).around(message))).icmp_error

    def test_a_quote_ends_where_the_quoted_packet_does(self):
        quoted = Sent(VIP, CLIENT, protocol=UDP, payload=b"data").packet()
        packet = parsed(icmp_error(CLIENT.ip, VIP.ip, quoted + b"RFC 4884 extension"))
        assert packet.quoted.end == IP + 28 + len(quoted)

    def test_a_quoted_later_fragment_shows_no_ports(self):
        piece = Sent(VIP, CLIENT, protocol=UDP, payload=bytes(100)).fragments(48)[1]
        packet = parsed(icmp_error(CLIENT.ip, VIP.ip, bytes(piece[IP:])))
        assert (packet.error, packet.quoted.sport, packet.quoted.destination) == (None, -1, CLIENT.ip)

    def test_what_is_not_tcp_or_udp_is_quoted_without_ports(self):
        about = Sent(VIP, CLIENT, protocol=ICMP).around(b"\x08\0\0\0ping")
        packet = parsed(icmp_error(CLIENT.ip, VIP.ip, about))
        assert (packet.error, packet.quoted.protocol, packet.quoted.sport) == (None, ICMP, -1)


def test_a_packet_shows_itself():
    assert repr(parsed(Sent(CLIENT, BACKEND))).startswith("<Packet IPv4 protocol 6 0a010007:40000 -> 0a02")
