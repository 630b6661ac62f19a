"""Packets that the gateway makes itself, held against scapy."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, IPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6

from l4lb.director import answer
from l4lb.director.answer import RateLimit
from l4lb.director.parse import parse
from l4lb.model import DropReason, Verdict
from tests.unit.director.gateway import BACKEND, BACKEND6, CLIENT, CLIENT6, VIP, VIP6, Gateway, service
from tests.unit.director.packets import ACK, FIN, PSH, RST, SYN, UDP, Sent, icmp_error, read

ENDS = [pytest.param((CLIENT, VIP), id="IPv4"), pytest.param((CLIENT6, VIP6), id="IPv6")]
GATEWAY = bytes([10, 1, 0, 1])
GATEWAY6 = VIP6.ip[:-2] + b"\0\1"


def parsed(sent):
    frame = sent.frame()
    return frame, parse(frame, len(frame))


def as_scapy(frame):
    """What scapy makes of an answer, after computing its checksums anew and finding them right."""
    data = bytes(frame[24:])
    kind = IP if data[0] >> 4 == 4 else IPv6
    again = kind(data)
    for layer in (again, again.payload):
        for field in ("chksum", "cksum"):
            if field in layer.fields and not isinstance(layer, IPerror):
                delattr(layer, field)
    assert bytes(again) == data
    return kind(data)


class TestReset:
    """RFC 9293 3.10.7.1."""

    @pytest.mark.parametrize("ends", ENDS)
    def test_of_an_ack_takes_its_sequence_number_from_it(self, ends):
        _, packet = parsed(Sent(*ends, flags=ACK | PSH, sequence=5, acknowledgement=777, payload=b"abc"))
        seen = read(answer.reset(packet))
        assert (seen.source, seen.destination) == ends[::-1]
        assert (seen.flags, seen.sequence, seen.acknowledgement) == (RST, 777, 0)
        assert as_scapy(answer.reset(packet))[TCP].flags == "R"

    @pytest.mark.parametrize("ends", ENDS)
    @pytest.mark.parametrize(
        ("flags", "payload", "acknowledged"),
        [(SYN, b"", 1), (SYN, b"fast open", 10), (0, b"abc", 3), (FIN, b"", 1), (SYN | FIN, b"", 2)],
    )
    def test_without_an_ack_it_acknowledges_all_that_came(self, ends, flags, payload, acknowledged):
        _, packet = parsed(Sent(*ends, flags=flags, sequence=0xFFFF_FFFF, payload=payload))
        seen = read(answer.reset(packet))
        assert (seen.flags, seen.sequence, seen.acknowledgement) == (RST | ACK, 0, acknowledged - 1)
        assert seen.right

    @pytest.mark.parametrize("flags", [RST, RST | ACK])
    def test_of_an_rst_there_is_none(self, flags):
        _, packet = parsed(Sent(CLIENT, VIP, flags=flags))
        assert answer.reset(packet) is None


class TestResets:
    @pytest.mark.parametrize(
        ("client", "vip", "backend"), [(CLIENT, VIP, BACKEND), (CLIENT6, VIP6, BACKEND6)]
    )
    def test_both_ends_get_the_number_that_they_wait_for(self, client, vip, backend):
        gateway = Gateway(service(backend))
        ours, theirs = gateway.open(client)
        to_client, to_backend = answer.resets(gateway.connection())
        assert (to_client[0], to_backend[0]) == (True, False)
        seen = read(to_client[1])
        assert (seen.source, seen.destination, seen.sequence) == (vip, client, theirs.sequence)
        seen = read(to_backend[1])
        assert (seen.source, seen.destination, seen.sequence) == (client, backend, ours.sequence)
        assert all(as_scapy(frame)[TCP].flags == "R" for _, frame in (to_client, to_backend))

    def test_an_end_whose_number_is_not_known_gets_none(self):
        gateway = Gateway(service())
        gateway.forwarded(Sent(CLIENT, VIP))
        assert answer.resets(gateway.connection()) == []


class TestErrors:
    def test_port_unreachable(self):
        frame, packet = parsed(Sent(CLIENT, VIP, protocol=UDP, payload=b"hello"))
        error = as_scapy(answer.port_unreachable(frame, packet))
        assert (error.src, error.dst) == (VIP.host, CLIENT.host)
        assert (error[ICMP].type, error[ICMP].code) == (3, 3)
        assert bytes(error[ICMP].payload) == bytes(frame[24:])

    def test_port_unreachable_of_ipv6(self):
        frame, packet = parsed(Sent(CLIENT6, VIP6, protocol=UDP, payload=b"hello"))
        error = as_scapy(answer.port_unreachable(frame, packet))
        assert (error.src, error.dst) == (VIP6.host, CLIENT6.host)
        assert error[ICMPv6DestUnreach].code == 4
        assert bytes(error[ICMPv6DestUnreach].payload) == bytes(frame[24:])

    def test_time_exceeded(self):
        frame, packet = parsed(Sent(CLIENT, VIP, ttl=1))
        error = as_scapy(answer.time_exceeded(frame, packet, GATEWAY))
        assert (error.src, error[ICMP].type, error[ICMP].code) == ("10.1.0.1", 11, 0)
        frame, packet = parsed(Sent(CLIENT6, VIP6, ttl=1))
        assert as_scapy(answer.time_exceeded(frame, packet, GATEWAY6))[ICMPv6TimeExceeded].code == 0

    def test_too_big_says_what_fits(self):
        frame, packet = parsed(Sent(CLIENT, VIP, flags=ACK, payload=bytes(1460)))
        error = as_scapy(answer.too_big(frame, packet, GATEWAY, 1400))
        assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 1400)
        frame, packet = parsed(Sent(CLIENT6, VIP6, flags=ACK, payload=bytes(1440)))
        assert as_scapy(answer.too_big(frame, packet, GATEWAY6, 1400))[ICMPv6PacketTooBig].mtu == 1400

    @pytest.mark.parametrize(
        ("ends", "length"), [((CLIENT, VIP), 576), ((CLIENT6, VIP6), 1280)], ids=["IPv4", "IPv6"]
    )
    def test_a_long_packet_is_not_quoted_whole(self, ends, length):
        frame, packet = parsed(Sent(*ends, protocol=UDP, payload=bytes(3000)))
        error = answer.port_unreachable(frame, packet)
        assert len(error) - 24 == length
        as_scapy(error)

    def test_a_trailer_is_not_quoted(self):
        frame, packet = parsed(Sent(CLIENT, VIP, protocol=UDP, trailer=b"trailer"))
        assert answer.port_unreachable(frame, packet)[24 + 28 :] == frame[24:-7]

    @pytest.mark.parametrize(
        "frame",
        [
            icmp_error(CLIENT.ip, VIP.ip, Sent(VIP, CLIENT).packet()),
            Sent(CLIENT, VIP, protocol=UDP, payload=bytes(100)).fragments(48)[1],
        ],
        ids=["of an error", "of a later fragment"],
    )
    def test_there_is_none(self, frame):
        """RFC 1122 3.2.2."""
        packet = parse(frame, len(frame))
        assert answer.port_unreachable(frame, packet) is None
        assert answer.time_exceeded(frame, packet, GATEWAY) is None
        assert answer.too_big(frame, packet, GATEWAY, 1400) is None

    def test_of_a_first_fragment_there_is_one(self):
        frame = Sent(CLIENT, VIP, protocol=UDP, payload=bytes(100)).fragments(48)[0]
        assert answer.port_unreachable(frame, parse(frame, len(frame))) is not None


class TestRateLimit:
    def test_a_burst_then_the_rate(self):
        limit = RateLimit(0.0, rate=10.0, burst=5.0)
        assert sum(limit.allows(0.0) for _ in range(100)) == 5
        assert sum(limit.allows(1.0 + step / 100) for step in range(100)) == 5 + 9

    def test_silence_does_not_save_up_more_than_a_burst(self):
        limit = RateLimit(0.0, rate=10.0, burst=5.0)
        assert sum(limit.allows(1000.0) for _ in range(100)) == 5

    def test_a_flood_is_answered_only_so_often(self):
        gateway = Gateway(service())
        frame = Sent(CLIENT, VIP, flags=ACK).frame()
        verdicts = [gateway.process(frame) for _ in range(20_010)]
        assert verdicts[19_999:20_001] == [Verdict.REPLY, Verdict.DROP]
        assert len(gateway.director.out) == 20_000
        assert gateway.director.drops == {DropReason.NO_CONNECTION: 20_010, DropReason.RATE_LIMITED: 10}
