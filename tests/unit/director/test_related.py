"""ICMP errors find the connection that they are about, and become what its ends can use."""

from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from l4lb.director.parse import parse
from l4lb.director.related import related
from l4lb.model import DropReason, Endpoint, Nat, Protocol, Verdict
from tests.unit.director.gateway import (
    BACKEND,
    BACKEND6,
    CLIENT,
    CLIENT6,
    OTHER,
    SNAT,
    VIP,
    VIP6,
    Gateway,
    service,
)
from tests.unit.director.packets import UDP, Sent, checksum, icmp_error, read, words_sum

ROUTER, CLIENT_ROUTER = bytes([10, 2, 0, 99]), bytes([10, 1, 0, 99])
ROUTER6 = BACKEND6.ip[:-1] + b"\x99"


def opened(*, nat=Nat.DESTINATION, six=False):
    """A gateway with a connection, what last went to the backend, and to the client."""
    gateway = Gateway(service(BACKEND6 if six else BACKEND, nat=nat))
    ours, theirs = gateway.open(CLIENT6 if six else CLIENT)
    to_backend = gateway.forwarded(replace(ours, payload=b"request"))
    to_client = gateway.forwarded(replace(theirs, payload=b"answer"))
    return gateway, to_backend, to_client


def quoted(seen):
    """What stands in the error that was put out last: the quoted packet's ends."""
    data = seen.packet[28:] if seen.source.version == 4 else seen.packet[48:]
    start = (data[0] & 15) * 4 if data[0] >> 4 == 4 else 40
    ips = (data[12:16], data[16:20]) if data[0] >> 4 == 4 else (data[8:24], data[24:40])
    ports = data[start : start + 2], data[start + 2 : start + 4]
    return tuple(Endpoint(ip, int.from_bytes(port, "big")) for ip, port in zip(ips, ports, strict=True))


class TestTowardsTheClient:
    @pytest.mark.parametrize("source", [ROUTER, BACKEND.ip], ids=["router", "backend"])
    @pytest.mark.parametrize("nat", list(Nat))
    def test_it_comes_from_the_vip_and_quotes_what_the_client_sent(self, source, nat):
        gateway, to_backend, _ = opened(nat=nat)
        error = icmp_error(source, to_backend.source.ip, to_backend.packet, code=4, value=1400)
        seen = gateway.forwarded(error)
        assert (seen.source.ip, seen.destination.ip) == (VIP.ip, CLIENT.ip)
        assert quoted(seen) == (CLIENT, VIP)

    def test_the_quoted_packet_is_byte_for_byte_what_was_sent(self):
        """But for the TTL: its checksums too, so that the client finds its own packet."""
        gateway, _, _ = opened()
        sent = Sent(CLIENT, VIP, flags=0x10, sequence=1001, acknowledgement=5_000_001, payload=b"more")
        reached = gateway.forwarded(sent)
        seen = gateway.forwarded(icmp_error(ROUTER, CLIENT.ip, reached.packet))
        assert seen.packet[28:] == replace(sent, ttl=63).packet()

    def test_of_ipv6_with_its_pseudo_header(self):
        gateway, to_backend, _ = opened(six=True)
        error = icmp_error(ROUTER6, CLIENT6.ip, to_backend.packet, kind=2, code=0, value=1280)
        seen = gateway.forwarded(error)
        assert (seen.source.ip, seen.destination.ip) == (VIP6.ip, CLIENT6.ip)
        assert quoted(seen) == (CLIENT6, VIP6)
        assert IPv6(seen.packet)[ICMPv6PacketTooBig].mtu == 1280


class TestTowardsTheBackend:
    def test_its_source_stays(self):
        gateway, _, to_client = opened()
        seen = gateway.forwarded(icmp_error(CLIENT_ROUTER, VIP.ip, to_client.packet))
        assert (seen.source.ip, seen.destination.ip) == (CLIENT_ROUTER, BACKEND.ip)
        assert quoted(seen) == (BACKEND, CLIENT)

    def test_under_full_nat_it_is_one_that_the_backend_can_answer(self):
        gateway, to_backend, to_client = opened(nat=Nat.FULL)
        seen = gateway.forwarded(icmp_error(CLIENT_ROUTER, VIP.ip, to_client.packet))
        assert (seen.source.ip, seen.destination.ip) == (SNAT, BACKEND.ip)
        assert quoted(seen) == (BACKEND, to_backend.source)


class TestQuotes:
    @pytest.mark.parametrize("length", [28, 29, 36, 37, 40, 47])
    def test_cut_short_anywhere_behind_eight_bytes(self, length):
        gateway, to_backend, _ = opened()
        seen = gateway.forwarded(icmp_error(ROUTER, CLIENT.ip, to_backend.packet[:length]))
        assert quoted(seen) == (CLIENT, VIP)
        assert len(seen.packet) == 28 + length

    @pytest.mark.parametrize("length", [0, 1, 19, 20, 27])
    def test_cut_shorter_it_is_of_no_use(self, length):
        gateway, to_backend, _ = opened()
        assert gateway.send(icmp_error(ROUTER, VIP.ip, to_backend.packet[:length])) is Verdict.DROP
        assert gateway.director.drops == {DropReason.BAD_ICMP_HEADER: 1}

    def test_the_quoted_udp_checksum_is_repaired_and_none_stays_none(self):
        gateway = Gateway(service(protocol=Protocol.UDP))
        for sums, layer in (("full", UDPerror), ("none", UDPerror)):
            sent = Sent(CLIENT, VIP, protocol=UDP, payload=b"query", checksum=sums)
            reached = gateway.forwarded(sent)
            seen = gateway.forwarded(icmp_error(BACKEND.ip, CLIENT.ip, reached.packet, code=3))
            expected = int.from_bytes(sent.transport()[6:8], "big")
            assert IP(seen.packet)[layer].chksum == expected

    def test_ip_options_in_the_quote(self):
        gateway = Gateway(service())
        sent = Sent(CLIENT, VIP, ip_options=b"\1\1\1\0", payload=b"data")
        reached = gateway.forwarded(sent)
        seen = gateway.forwarded(icmp_error(ROUTER, CLIENT.ip, reached.packet))
        assert seen.packet[28:] == replace(sent, ttl=63).packet()
        assert IP(seen.packet)[TCPerror].dport == VIP.port

    def test_a_damaged_error_stays_damaged(self):
        gateway, to_backend, _ = opened()
        error = icmp_error(ROUTER, CLIENT.ip, to_backend.packet)
        error[46] ^= 1  # of the ICMP checksum
        assert gateway.send(error) is Verdict.FORWARD
        ((_, seen),) = gateway.seen
        assert seen.header_right
        assert not seen.transport_right


class TestForged:
    def find(self, gateway, frame):
        return related(gateway.director.table, parse(frame, len(frame)))

    def test_an_error_that_does_not_go_to_the_sender_of_what_it_quotes(self):
        gateway, to_backend, _ = opened()
        for destination in (VIP.ip, OTHER.ip):
            assert self.find(gateway, icmp_error(ROUTER, destination, to_backend.packet)) is None

    def test_a_quote_of_what_was_never_sent(self):
        gateway, to_backend, _ = opened()
        for changes in ({"source": replace(CLIENT, port=1)}, {"destination": OTHER}, {"protocol": UDP}):
            sent = replace(Sent(to_backend.source, to_backend.destination), **changes)
            assert self.find(gateway, icmp_error(ROUTER, CLIENT.ip, sent.packet())) is None

    def test_a_quote_of_what_came_in_instead_of_what_went_out(self):
        gateway, _, _ = opened()
        assert self.find(gateway, icmp_error(ROUTER, CLIENT.ip, Sent(CLIENT, VIP).packet())) is None

    def test_one_about_a_connection_to_the_vip_that_is_unknown_is_dropped(self):
        gateway, _, _ = opened()
        unknown = Sent(VIP, replace(CLIENT, port=9)).packet()
        assert gateway.send(icmp_error(CLIENT_ROUTER, VIP.ip, unknown)) is Verdict.DROP
        assert gateway.director.drops == {DropReason.ICMP_UNMATCHED: 1}

    def test_one_about_another_port_of_the_vip_is_the_hosts(self):
        gateway, _, _ = opened()
        unknown = Sent(replace(VIP, port=22), CLIENT).packet()
        assert gateway.send(icmp_error(CLIENT_ROUTER, VIP.ip, unknown)) is Verdict.PASS

    def test_no_error_changes_the_connection(self):
        gateway, to_backend, to_client = opened()
        connection = gateway.connection()
        before = (connection.state, connection.seen, connection.acked_by_client)
        gateway.now += 10
        for kind in (3, 11, 12):
            gateway.send(icmp_error(ROUTER, CLIENT.ip, to_backend.packet, kind=kind))
            gateway.send(icmp_error(CLIENT_ROUTER, VIP.ip, to_client.packet, kind=kind))
        assert (connection.state, connection.seen, connection.acked_by_client) == before


def test_what_scapy_says_of_a_translated_error():
    gateway, to_backend, _ = opened()
    seen = gateway.forwarded(icmp_error(ROUTER, CLIENT.ip, to_backend.packet, kind=11, code=0))
    error = IP(seen.packet)
    assert (error.src, error.dst, error[ICMP].type) == (VIP.host, CLIENT.host, 11)
    assert (error[IPerror].src, error[IPerror].dst) == (CLIENT.host, VIP.host)
    assert (error[TCPerror].sport, error[TCPerror].dport) == (CLIENT.port, VIP.port)
    assert words_sum(seen.packet[20:]) == words_sum(seen.packet[28:48]) == 0xFFFF
    assert checksum(seen.packet[:20]) == 0
    assert read(seen.packet.rjust(24 + len(seen.packet), b"\0")).right
