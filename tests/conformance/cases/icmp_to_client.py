"""ICMP errors about what a client sent: from a backend, or from a router before it, to the client.

The error comes in about the packet as the gateway sent it; the client must find the packet it sent
itself, or it ignores the error (RFC 5508 REQ-4; RFC 5927 4.1). Its source becomes the VIP, as the
kernel's NAT has it: the network behind the gateway is not the client's business.
"""

from scapy.layers.inet6 import IPv6ExtHdrDestOpt, PadN

from l4lb.model import DropReason, State
from tests.conformance.case import drop, forward, leave, packet_case, table
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    HOP,
    answered,
    asked,
    from_client,
    handshake,
    row,
    syn,
)
from tests.conformance.packets import damaged, data_summing_to, fragments, icmp, quote, tcp, udp
from tests.conformance.plans import UDP, full, plan, service, snat
from tests.conformance.world import V4, V6

LATER = HOP - 1  # TTL of the packet when the error was made
DATA = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": b"an odd number of bytes."}


def error(net, reporter, kind, *, sent, seen, value=0, length=None, source=None):
    """The error about ``seen``, the packet that the gateway sent on, becomes one about ``sent``."""
    return forward(
        icmp(reporter, source or net.client, kind, quote(seen, length), value=value),
        icmp(net.vip, net.client, kind, quote(sent, length), value=value, ttl=HOP),
    )


def tcp_quoted(net, source=None, flags="PA", **fields):
    fields = fields or DATA
    return {
        "sent": tcp(net.client, net.vip, flags, **fields, ttl=LATER),
        "seen": tcp(source or net.client, net.web1, flags, **fields, ttl=LATER),
    }


def udp_quoted(net, data=b"question", source=None, **fields):
    return {
        "sent": udp(net.client, net.vip, data, ttl=LATER, **fields),
        "seen": udp(source or net.client, net.web1, data, ttl=LATER, **fields),
    }


@packet_case()
def udp_port_unreachable_from_the_backend(net):
    """Nobody listens: the client's socket must learn it. The whole datagram is quoted, its checksum
    too. The flow stays as it is."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        error(net, net.web1, net.port_unreachable, **udp_quoted(net)),
        table(row(net, net.web1, State.UDP_NEW)),
        answered(net, net.web1),
        error(net, net.web1, net.port_unreachable, **udp_quoted(net)),
    ]


@packet_case()
def host_unreachable_from_a_router(net):
    """The backend cannot be reached from a router behind the gateway: its address is hidden."""
    quoted = tcp_quoted(net, flags="S", seq=CLIENT_SEQ)
    return plan(service(net)), [
        syn(net, net.web1),
        error(net, net.border, net.unreachable, **quoted),
        table(row(net, net.web1, State.SYN_SENT)),
    ]


@packet_case()
def too_big_from_a_router(net):
    """Path-MTU discovery through the gateway (RFC 1191, RFC 8201): the MTU is in the four bytes
    behind the checksum and stays."""
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.border, net.too_big, value=1300, **tcp_quoted(net)),
        from_client(net, net.web1),
    ]


@packet_case()
def time_exceeded_from_a_router(net):
    """The next line of a traceroute."""
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.border, net.time_exceeded, **tcp_quoted(net)),
    ]


@packet_case()
def parameter_problem_from_the_backend(net):
    """ICMP type 12, ICMPv6 type 4: the pointer counts into the quoted packet, whose headers have not
    changed in length."""
    pointer = 0x0900_0000 if net.version == 4 else 6
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.web1, net.parameter_problem, value=pointer, **tcp_quoted(net)),
    ]


@packet_case()
def only_eight_bytes_quoted(net):
    """An old router quotes the IP header and 8 bytes more (RFC 792): ports, and of TCP no checksum
    that could be repaired."""
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.border, net.time_exceeded, length=net.header + 8, **tcp_quoted(net)),
    ]


@packet_case()
def quotes_of_every_length(net):
    """From 8 bytes of TCP to the whole packet: the quoted checksum is repaired as soon as it is there,
    and odd lengths do not shift the sum."""
    return plan(service(net)), [
        handshake(net, net.web1),
        [
            error(net, net.border, net.time_exceeded, length=net.header + length, **tcp_quoted(net))
            for length in (9, 11, 16, 18, 19, 20, 21, 42, 43)
        ],
    ]


@packet_case()
def half_a_quoted_checksum(net):
    """A quote that ends in the middle of the checksum: half of it cannot be repaired and is left."""
    quoted = tcp_quoted(net)
    seen = quote(quoted["seen"], net.header + 17)
    sent = quote(quoted["sent"], net.header + 16) + seen[-1:]
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            icmp(net.border, net.client, net.time_exceeded, seen),
            icmp(net.vip, net.client, net.time_exceeded, sent, ttl=HOP),
        ),
    ]


@packet_case()
def udp_quotes_of_every_length(net):
    """The 8 bytes of UDP include the checksum."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        [
            error(net, net.border, net.time_exceeded, length=net.header + length, **udp_quoted(net))
            for length in (8, 9, 15, 16)
        ],
    ]


@packet_case()
def quoted_udp_without_checksum(net):
    """A quoted checksum of 0 is none, and stays 0."""
    return plan(service(net, protocol=UDP)), [
        forward(udp(net.client, net.vip, b"x", sum=0), udp(net.client, net.web1, b"x", sum=0, ttl=HOP)),
        error(net, net.web1, net.port_unreachable, **udp_quoted(net, b"x", sum=0)),
    ]


@packet_case()
def quoted_udp_checksum_that_becomes_zero(net):
    """The client had sent 0xffff for a computed 0: that is what it finds quoted."""
    data = data_summing_to(0xFFFF, lambda data: udp(net.client, net.vip, data))
    return plan(service(net, protocol=UDP)), [
        forward(udp(net.client, net.vip, data), udp(net.client, net.web1, data, ttl=HOP)),
        error(net, net.web1, net.port_unreachable, **udp_quoted(net, data)),
    ]


@packet_case(V4)
def quoted_ip_options(net):
    """The quoted header is as long as it says: the ports are behind its options."""
    options = {"options": [b"\x94\x04\x00\x00"], **DATA}
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.border, net.time_exceeded, **tcp_quoted(net, **options)),
        error(net, net.border, net.time_exceeded, length=32, **tcp_quoted(net, **options)),
    ]


@packet_case(V6)
def quoted_extension_headers(net):
    """The quoted packet's extension headers are walked like a packet's own."""
    chain = {"extensions": [IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])], **DATA}
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.border, net.time_exceeded, **tcp_quoted(net, **chain)),
    ]


@packet_case(V4)
def ip_options_of_the_error(net):
    """The error itself may have options: the quote begins behind them."""
    quoted = tcp_quoted(net)
    alert = {"options": [b"\x94\x04\x00\x00"]}
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            icmp(net.border, net.client, net.time_exceeded, quote(quoted["seen"]), **alert),
            icmp(net.vip, net.client, net.time_exceeded, quote(quoted["sent"]), **alert, ttl=HOP),
        ),
    ]


@packet_case(V6)
def extension_headers_of_the_error(net):
    """IPv6 has them between the header and ICMP."""
    quoted = tcp_quoted(net)
    chain = {"extensions": [IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])]}
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            icmp(net.border, net.client, net.too_big, quote(quoted["seen"]), value=1300, **chain),
            icmp(net.vip, net.client, net.too_big, quote(quoted["sent"]), value=1300, **chain, ttl=HOP),
        ),
    ]


@packet_case()
def about_a_first_fragment(net):
    """A backend that misses the rest quotes the first fragment (time exceeded, code 1): it shows the
    ports."""
    data, kind = bytes(2_000), (net.time_exceeded[0], 1)
    whole = [udp(net.client, to, data, df=False, ttl=LATER) for to in (net.vip, net.web1)]
    sent, seen = (fragments(packet, 1400, identification=0x1030)[0] for packet in whole)
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        error(net, net.web1, kind, sent=sent, seen=seen, length=548),
    ]


@packet_case()
def full_nat(net):
    """The error comes to the gateway's own address, about a packet from there: outer destination
    and quoted source become the client's."""
    source = snat(net)
    return full(net), [
        handshake(net, net.web1, source=source),
        error(net, net.border, net.too_big, value=1300, source=source, **tcp_quoted(net, source)),
        error(
            net,
            net.web1,
            net.port_unreachable,
            length=net.header + 8,
            source=source,
            **tcp_quoted(net, source),
        ),
    ]


@packet_case()
def full_nat_udp(net):
    """The same about a datagram, from the backend itself."""
    source = snat(net)
    return full(net, protocol=UDP), [
        asked(net, net.web1, source=source),
        error(net, net.web1, net.port_unreachable, source=source, **udp_quoted(net, source=source)),
    ]


@packet_case()
def a_wrong_checksum_of_the_error_stays_wrong(net):
    """The ICMP checksum is repaired by what changed: damage stays visible to the client."""
    quoted = tcp_quoted(net)
    field = net.header + 2
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            damaged(icmp(net.border, net.client, net.time_exceeded, quote(quoted["seen"])), field),
            damaged(icmp(net.vip, net.client, net.time_exceeded, quote(quoted["sent"]), ttl=HOP), field),
        ),
    ]


@packet_case()
def about_a_connection_nobody_knows(net):
    """An error about a packet from a client to a backend that was not through the VIP: the host's,
    who forwards it."""
    seen = tcp(net.client.at(41_999), net.web1, "A", **DATA, ttl=LATER)
    return plan(service(net)), [
        handshake(net, net.web1),
        leave(
            icmp(net.border, net.client, net.time_exceeded, quote(seen)),
            host=[icmp(net.border, net.client, net.time_exceeded, quote(seen), ttl=HOP)],
        ),
    ]


@packet_case()
def not_to_who_sent_the_packet(net):
    """An honest error goes to the source of the packet it quotes; another one is not about a
    connection of its receiver's (RFC 5927)."""
    seen = tcp_quoted(net)["seen"]
    return plan(service(net)), [
        handshake(net, net.web1),
        leave(
            icmp(net.border, net.second, net.time_exceeded, quote(seen)),
            host=[icmp(net.border, net.second, net.time_exceeded, quote(seen), ttl=HOP)],
        ),
    ]


@packet_case()
def ttl_of_an_error(net):
    """No error about an error (RFC 1122 3.2.2, RFC 4443 2.4 e): dropped in silence."""
    seen = tcp_quoted(net)["seen"]
    return plan(service(net)), [
        handshake(net, net.web1),
        drop(icmp(net.border, net.client, net.time_exceeded, quote(seen), ttl=1), DropReason.TTL_EXCEEDED),
    ]
