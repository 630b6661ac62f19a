"""Pieces are put together again by scapy, and are the packet that was cut."""

from dataclasses import replace

import pytest
from scapy.layers.inet import IP, UDP, defragment

from l4lb.director.parse import parse, segment_length
from l4lb.director.split import allowed, split
from l4lb.model import Protocol, Verdict
from l4lb.wire.frame import VnetHeader
from tests.unit.director import packets
from tests.unit.director.gateway import CLIENT, CLIENT6, VIP, VIP6, Gateway, service
from tests.unit.director.packets import ACK, Sent, read, words_sum

DATA = bytes(range(256)) * 12
QUERY = Sent(CLIENT, VIP, protocol=packets.UDP, payload=DATA, identification=9, dont_fragment=False)


def cut(sent, mtu):
    """The pieces, each a frame with right lengths and header checksum."""
    frame = sent if isinstance(sent, bytearray) else sent.frame()
    pieces = split(frame, parse(frame, len(frame)), mtu)
    for piece in pieces:
        packet = bytes(piece[24:])
        assert len(packet) == int.from_bytes(packet[2:4], "big") <= mtu
        assert words_sum(packet[: (packet[0] & 15) * 4]) == 0xFFFF
        assert piece[:24] == bytes(10) + packets.ethernet(4)
    return pieces


def together(pieces):
    (whole,) = defragment([IP(bytes(piece[24:])) for piece in pieces])
    return bytes(whole[IP].payload)


@pytest.mark.parametrize("mtu", [1500, 1499, 576, 68])
@pytest.mark.parametrize("size", [1473, 2000, 3001])
@pytest.mark.parametrize("sums", ["full", "partial", "none"])
def test_pieces_of_a_datagram_are_the_datagram(mtu, size, sums):
    sent = replace(QUERY, payload=DATA[:size], checksum=sums)
    pieces = cut(sent, mtu)
    assert len(pieces) == -(-(size + 8) // ((mtu - 20) // 8 * 8))
    whole = replace(sent, checksum="full") if sums == "partial" else sent
    assert together(pieces) == whole.transport()


def test_pieces_of_a_segment():
    sent = Sent(CLIENT, VIP, flags=ACK, payload=DATA, dont_fragment=False, options=bytes([1] * 12))
    assert together(cut(sent, 1000)) == sent.transport()


def test_pieces_keep_what_the_header_says():
    sent = replace(QUERY, ttl=17)
    for piece in cut(sent, 1000):
        header = IP(bytes(piece[24:44]))
        assert (header.src, header.dst, header.ttl, header.id, header.proto) == (
            CLIENT.host,
            VIP.host,
            17,
            9,
            packets.UDP,
        )


def test_options_are_in_the_first_piece_and_copied_ones_in_all():
    """RFC 791 3.1: record route stays in the first, loose source route goes into every one."""
    record, source_route = b"\x07\x07\x04\0\0\0\0", b"\x83\x07\x04\x0a\0\0\1"
    sent = replace(QUERY, ip_options=record + source_route + b"\1\0")
    first, *rest = cut(sent, 500)
    assert first[44:60] == record + source_route + b"\1\0"
    assert rest
    for piece in rest:
        assert piece[44:60] == b"\1" * 7 + source_route + b"\1\0"
    assert together([first, *rest]) == sent.transport()


def test_malformed_options_stay_as_they_were():
    sent = replace(QUERY, ip_options=b"\x07\xff\1\1")
    assert {bytes(piece[44:48]) for piece in cut(sent, 500)} == {b"\x07\xff\1\1"}


def test_fragments_are_cut_into_smaller_fragments():
    pieces = [piece for fragment in QUERY.fragments(1400) for piece in cut(fragment, 500)]
    assert len(pieces) == 7
    assert together(pieces) == QUERY.transport()


class TestOffload:
    def test_segments_of_a_gso_frame_become_smaller(self):
        sent = Sent(
            CLIENT,
            VIP,
            flags=ACK,
            payload=bytes(9000),
            options=bytes([1] * 12),
            gso_size=1448,
            checksum="partial",
            dont_fragment=False,
            trailer=b"trailer",
        )
        frame = sent.frame()
        (piece,) = split(frame, packet := parse(frame, len(frame)), 1000)
        assert VnetHeader.read(piece).gso_size == 1000 - 52
        assert segment_length(piece, packet) == 1000
        assert piece[10:] == replace(sent, trailer=b"").frame()[10:]

    def test_datagrams_of_a_udp_gso_frame_stay_apart(self):
        sent = replace(QUERY, payload=DATA[:2500], gso_size=1200, checksum="partial")
        pieces = cut(sent, 1000)
        by_number = {}
        for piece in pieces:
            by_number.setdefault(IP(bytes(piece[24:])).id, []).append(piece)
        assert list(by_number) == [9, 10, 11]
        for number, start in zip(by_number, (0, 1200, 2400), strict=True):
            payload = DATA[start : min(start + 1200, 2500)]
            whole = replace(QUERY, payload=payload, identification=number)
            assert together(by_number[number]) == whole.transport()

    def test_identifications_wrap(self):
        sent = replace(QUERY, payload=DATA[:2400], gso_size=1200, identification=0xFFFF, checksum="partial")
        assert {IP(bytes(piece[24:])).id for piece in cut(sent, 1000)} == {0xFFFF, 0}


class TestAllowed:
    @pytest.mark.parametrize(
        ("sent", "answer"),
        [
            (Sent(CLIENT, VIP, dont_fragment=False), True),
            (Sent(CLIENT, VIP, dont_fragment=True), False),
            (Sent(CLIENT6, VIP6, dont_fragment=False), False),
        ],
        ids=["IPv4", "don't fragment", "IPv6"],
    )
    def test_only_ipv4_without_dont_fragment(self, sent, answer):
        frame = sent.frame()
        assert allowed(frame, parse(frame, len(frame))) is answer


class TestLength:
    """Of the largest packet that a frame stands for."""

    @pytest.mark.parametrize(
        ("changes", "length"),
        [
            ({}, 3040),
            ({"gso_size": 1000}, 1040),
            ({"gso_size": 1000, "options": bytes([1] * 12)}, 1052),
            ({"gso_size": 1000, "ip_options": b"\1\1\1\0"}, 1044),
            ({"gso_size": 5000}, 3040),
        ],
    )
    def test_of_a_segment(self, changes, length):
        frame = Sent(CLIENT, VIP, payload=bytes(3000), **changes).frame()
        assert segment_length(frame, parse(frame, len(frame))) == length

    def test_of_a_datagram(self):
        frame = replace(QUERY, payload=bytes(3000), gso_size=1000).frame()
        assert segment_length(frame, parse(frame, len(frame))) == 1028

    def test_a_frame_that_names_no_size_is_one_packet(self):
        frame = Sent(CLIENT, VIP, payload=bytes(3000), gso_size=1000).frame()
        VnetHeader(gso_type=1).write(frame)
        assert segment_length(frame, parse(frame, len(frame))) == 3040


def test_the_director_cuts_what_it_has_translated():
    gateway = Gateway(service(protocol=Protocol.UDP), mtu=1000)
    assert gateway.send(QUERY) is Verdict.FORWARD
    pieces = [frame for _, frame, _ in gateway.director.out]
    assert len(pieces) == 4
    whole = IP(bytes(pieces[0][24:44]))
    data = together(pieces)
    seen = read(bytes(24) + bytes(IP(src=whole.src, dst=whole.dst, proto=packets.UDP, ttl=63) / data))
    assert seen.right
    assert seen.payload == DATA
    assert UDP(data).dport == 8080
