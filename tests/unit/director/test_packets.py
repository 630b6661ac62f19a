"""The tests' own packets are what scapy makes of them."""

from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Raw

from l4lb.model import Endpoint
from tests.unit.director import packets
from tests.unit.director.packets import Sent, read

FOUR = (Endpoint.parse("192.0.2.1:1234"), Endpoint.parse("198.51.100.2:80"))
SIX = (Endpoint.parse("[2001:db8::1]:1234"), Endpoint.parse("[2001:db8::2]:80"))


def scapy_ip(sent):
    if sent.version == 4:
        flags = "DF" if sent.dont_fragment else 0
        options = [IPOption_NOP()] * len(sent.ip_options)
        return IP(
            src=sent.source.host,
            dst=sent.destination.host,
            ttl=sent.ttl,
            id=sent.identification,
            flags=flags,
            options=options,
        )
    return IPv6(src=sent.source.host, dst=sent.destination.host, hlim=sent.ttl)


def scapy_transport(sent):
    if sent.protocol == packets.UDP:
        return UDP(sport=sent.source.port, dport=sent.destination.port) / Raw(sent.payload)
    return TCP(
        sport=sent.source.port,
        dport=sent.destination.port,
        flags=sent.flags,
        seq=sent.sequence,
        ack=sent.acknowledgement,
        window=sent.window,
        options=[("NOP", None)] * len(sent.options),
    ) / Raw(sent.payload)


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
def test_tcp_and_udp_are_byte_for_byte_what_scapy_builds(ends, payload):
    tcp = Sent(*ends, sequence=7, acknowledgement=9, flags=0x18, options=bytes([1] * 8), payload=payload)
    udp = Sent(*ends, protocol=packets.UDP, payload=payload, ttl=3, identification=77)
    for sent in (tcp, udp):
        assert sent.packet() == bytes(scapy_ip(sent) / scapy_transport(sent))


def test_ip_options_and_extension_headers_are_what_scapy_builds():
    sent = Sent(*FOUR, ip_options=bytes([1] * 4))
    assert sent.packet() == bytes(scapy_ip(sent) / scapy_transport(sent))
    sent = Sent(*SIX, extensions=((60, bytes([0, 1, 4, 0, 0, 0, 0])),))
    header = IPv6ExtHdrDestOpt()
    assert sent.packet() == bytes(scapy_ip(sent) / header / scapy_transport(sent))


def test_fragments_are_put_together_by_scapy():
    from scapy.layers.inet import defragment
    from scapy.layers.inet6 import defragment6

    sent = Sent(*FOUR, protocol=packets.UDP, payload=bytes(range(256)) * 9, identification=5)
    pieces = [IP(bytes(frame[packets.IP :])) for frame in sent.fragments(1000, first=8)]
    (whole,) = defragment(pieces)
    assert bytes(whole[UDP]) == sent.transport()
    six = replace(sent, source=SIX[0], destination=SIX[1])
    pieces = [IPv6(bytes(frame[packets.IP :])) for frame in six.fragments(1000, first=8)]
    assert all(IPv6ExtHdrFragment in piece for piece in pieces)
    assert bytes(defragment6(pieces)[UDP]) == six.transport()


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", [packets.TCP, packets.UDP])
def test_reading_gives_back_what_was_sent_and_judges_checksums(ends, protocol):
    sent = Sent(*ends, protocol=protocol, payload=b"hello", trailer=b"\xff" * 5)
    seen = read(sent.frame())
    assert (seen.source, seen.destination, seen.payload, seen.ttl) == (*ends, b"hello", 64)
    assert seen.right
    assert read(replace(sent, checksum="partial").frame()).right
    assert not read(replace(sent, checksum="wrong").frame()).right


def test_icmp_errors_are_what_scapy_builds():
    from scapy.layers.inet import ICMP
    from scapy.layers.inet6 import ICMPv6DestUnreach

    quoted = Sent(*FOUR).packet()[:28]
    ours = packets.icmp_error(FOUR[1].ip, FOUR[0].ip, quoted, code=3)
    theirs = IP(src=FOUR[1].host, dst=FOUR[0].host, flags="DF", id=0) / ICMP(type=3, code=3) / Raw(quoted)
    assert bytes(ours[packets.IP :]) == bytes(theirs)
    quoted = Sent(*SIX).packet()
    ours = packets.icmp_error(SIX[1].ip, SIX[0].ip, quoted, kind=1, code=4)
    theirs = IPv6(src=SIX[1].host, dst=SIX[0].host) / ICMPv6DestUnreach(code=4) / Raw(quoted)
    assert bytes(ours[packets.IP :]) == bytes(theirs)
