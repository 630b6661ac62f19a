"""Rewriting, held against a packet that was built with the new addresses to begin with."""

from dataclasses import replace

import pytest

from l4lb.director.parse import parse
from l4lb.director.translate import Rewrite, complete_checksum, translate
from l4lb.model import Endpoint
from tests.unit.director.gateway import (
    BACKEND,
    BACKEND6,
    CLIENT,
    CLIENT6,
    SNAT,
    SNAT6,
    VIP,
    VIP6,
)
from tests.unit.director.packets import ACK, TCP, UDP, Sent, checksum, pseudo_header, read, words_sum

SNAT_END, SNAT6_END = Endpoint(SNAT, 20_001), Endpoint(SNAT6, 20_001)
ANYONE, ANYONE6 = Endpoint(bytes(4), 0), Endpoint(bytes(16), 0)

# (client, VIP, what the backend sees, backend, the client's placeholder where its end stays)
FOUR, SIX = (CLIENT, VIP, BACKEND, ANYONE), (CLIENT6, VIP6, BACKEND6, ANYONE6)


def translated(sent, rewrite):
    frame = sent.frame()
    translate(frame, parse(frame, len(frame)), rewrite)
    return frame


def kinds():
    for client, vip, backend, anyone in (FOUR, SIX):
        snat = SNAT_END if client.version == 4 else SNAT6_END
        yield pytest.param(
            Rewrite((anyone, vip), (anyone, backend)), (client, vip), (client, backend), id="destination"
        )
        yield pytest.param(
            Rewrite((backend, anyone), (vip, anyone)), (backend, client), (vip, client), id="source"
        )
        yield pytest.param(
            Rewrite((client, vip), (snat, backend)), (client, vip), (snat, backend), id="both"
        )
        yield pytest.param(
            Rewrite((client, vip), (client, backend)), (client, vip), (client, backend), id="same client"
        )


@pytest.mark.parametrize(("rewrite", "before", "after"), list(kinds()))
class TestEveryKind:
    @pytest.mark.parametrize("protocol", [TCP, UDP])
    @pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
    @pytest.mark.parametrize("sums", ["full", "partial"])
    def test_the_result_is_the_packet_built_anew(self, rewrite, before, after, protocol, payload, sums):
        sent = Sent(*before, protocol=protocol, flags=ACK, payload=payload, checksum=sums)
        new = replace(sent, source=after[0], destination=after[1], ttl=63)
        assert translated(sent, rewrite) == new.frame()

    def test_with_options_and_extension_headers(self, rewrite, before, after):
        more = {"ip_options": b"\1\1\1\0", "extensions": ((60, b"\0\1\4\0\0\0\0"), (43, bytes(7)))}
        sent = Sent(*before, options=bytes([1] * 8), **more)
        new = replace(sent, source=after[0], destination=after[1], ttl=63)
        assert translated(sent, rewrite) == new.frame()

    def test_a_wrong_checksum_stays_wrong(self, rewrite, before, after):
        seen = read(translated(Sent(*before, checksum="wrong"), rewrite))
        assert not seen.transport_right
        assert seen.header_right

    def test_udp_without_a_checksum_keeps_none(self, rewrite, before, after):
        frame = translated(Sent(*before, protocol=UDP, checksum="none", payload=b"data"), rewrite)
        packet = parse(frame, len(frame))
        assert frame[packet.transport + 6 : packet.transport + 8] == b"\0\0"

    def test_a_udp_checksum_that_becomes_zero_is_sent_as_ffff(self, rewrite, before, after):
        """RFC 768: 0 would say that there is none."""
        sent = Sent(*before, protocol=UDP, payload=b"\0\0")
        new = replace(sent, source=after[0], destination=after[1])
        field = int.from_bytes(new.transport()[6:8], "big")
        sent = replace(sent, payload=field.to_bytes(2, "big"))  # the sum of the new one becomes 0xffff
        assert translated(sent, rewrite)[-4:-2] == b"\xff\xff"
        assert read(translated(sent, rewrite)).right

    def test_first_and_later_fragments(self, rewrite, before, after):
        sent = Sent(*before, protocol=UDP, payload=bytes(range(100)), identification=5)
        new = replace(sent, source=after[0], destination=after[1], ttl=63)
        for old_piece, new_piece in zip(sent.fragments(48), new.fragments(48), strict=True):
            translate(old_piece, parse(old_piece, len(old_piece)), rewrite)
            assert old_piece == new_piece


def test_a_wrong_ipv4_header_checksum_stays_wrong():
    frame = Sent(CLIENT, VIP).frame()
    frame[34] ^= 0x5A
    translate(frame, parse(frame, len(frame)), Rewrite((ANYONE, VIP), (ANYONE, BACKEND)))
    assert not read(frame).header_right
    assert read(frame).transport_right


class TestRewrite:
    def test_only_what_differs_is_written(self):
        rewrite = Rewrite((ANYONE, VIP), (ANYONE, BACKEND))
        assert (rewrite.addresses, rewrite.where) == (BACKEND.ip, slice(40, 44))
        assert (rewrite.ports, rewrite.ports_at, rewrite.ports_skip) == (b"\x1f\x90", slice(46, 48), 2)
        rewrite = Rewrite((BACKEND, ANYONE), (VIP, ANYONE))
        assert (rewrite.where, rewrite.ports_at, rewrite.ports_skip) == (slice(36, 40), slice(44, 46), 0)

    def test_nothing_new_changes_nothing(self):
        """A backend may have the service's own port and a client any address."""
        rewrite = Rewrite((CLIENT, VIP), (CLIENT, VIP))
        sent = Sent(CLIENT, VIP)
        assert translated(sent, rewrite) == replace(sent, ttl=63).frame()

    @pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
    def test_back_and_forth_is_where_it_began(self, ends):
        client, vip, backend, anyone = ends
        forward = Rewrite((anyone, vip), (anyone, backend))
        backward = Rewrite((backend, anyone), (vip, anyone))
        there = read(translated(Sent(client, vip), forward))
        back = read(translated(Sent(there.destination, there.source), backward))
        assert (back.source, back.destination) == (vip, client)


class TestCompleting:
    @pytest.mark.parametrize("protocol", [TCP, UDP])
    @pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
    @pytest.mark.parametrize("ends", [(CLIENT, VIP), (CLIENT6, VIP6)], ids=["IPv4", "IPv6"])
    def test_a_partial_checksum_becomes_the_full_one(self, ends, protocol, payload):
        sent = Sent(*ends, protocol=protocol, payload=payload)
        frame = replace(sent, checksum="partial").frame()
        complete_checksum(frame, parse(frame, len(frame)))
        assert frame[10:] == sent.frame()[10:]
        assert not frame[0] & 1

    def test_a_full_one_is_left_alone(self):
        frame = Sent(CLIENT, VIP, checksum="wrong").frame()
        before = bytes(frame)
        complete_checksum(frame, parse(frame, len(frame)))
        assert frame == before

    def test_udp_never_says_that_there_is_none(self):
        sent = Sent(CLIENT, VIP, protocol=UDP, payload=b"\0\0")
        field = int.from_bytes(sent.transport()[6:8], "big")
        frame = replace(sent, payload=field.to_bytes(2, "big"), checksum="partial").frame()
        complete_checksum(frame, parse(frame, len(frame)))
        assert frame[50:52] == b"\xff\xff"


def test_the_tests_own_sums_agree():
    data = Sent(CLIENT, VIP).transport()
    assert words_sum(pseudo_header(CLIENT.ip, VIP.ip, TCP, len(data)) + data) == 0xFFFF
    assert checksum(b"") == 0xFFFF
