"""ICMP errors about what a backend sent: from a client, or a router before it, to the backend.

They come to the VIP, about a packet from the VIP, and must become errors about the backend's own
packet (RFC 5508 REQ-5). Their source stays, as the client's does; under full NAT it becomes the
gateway's, since that is all a backend can reach.
"""

from dataclasses import replace

from scapy.layers.inet6 import IPv6ExtHdrDestOpt, PadN

from l4lb.model import DropReason, State
from tests.conformance.case import drop, forward, leave, packet_case, table
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    HOP,
    answered,
    asked,
    from_backend,
    handshake,
    row,
)
from tests.conformance.packets import cut, fragments, icmp, patched, quote, tcp, udp
from tests.conformance.plans import UDP, full, plan, service, snat
from tests.conformance.world import V4, V6, Side

LATER = HOP - 1
DATA = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT, "data": b"an odd number of bytes."}


def error(net, reporter, kind, *, sent, seen, value=0, length=None, source=None):
    """The error about ``seen``, which came from the VIP, becomes one about ``sent``. ``source`` is
    what the backend sees as its sender."""
    return forward(
        icmp(reporter, net.vip, kind, quote(seen, length), value=value),
        icmp(source or reporter, net.web1, kind, quote(sent, length), value=value, ttl=HOP),
    )


def tcp_quoted(net, source=None, **fields):
    fields = fields or DATA
    return {
        "sent": tcp(net.web1, source or net.client, "PA", **fields, ttl=LATER),
        "seen": tcp(net.vip, net.client, "PA", **fields, ttl=LATER),
    }


def udp_quoted(net, source=None, **fields):
    return {
        "sent": udp(net.web1, source or net.client, b"answer", ttl=LATER, **fields),
        "seen": udp(net.vip, net.client, b"answer", ttl=LATER, **fields),
    }


@packet_case()
def too_big_from_a_router(net):
    """Downloads depend on it: the backend must learn the MTU of the client's path (RFC 1191, RFC
    8201), and finds its own packet quoted."""
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.router, net.too_big, value=1400, **tcp_quoted(net)),
        from_backend(net, net.web1),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case(V6)
def too_big_from_a_link_local_address(net):
    """A router should not say it so (RFC 4443 2.2), and no other sends it on (RFC 4291 2.5.6), but a
    backend that does not hear it waits for ever: it comes from the VIP."""
    router = net.router._replace(ip="fe80::fe")
    from_router = error(net, router, net.too_big, value=1400, source=net.vip, **tcp_quoted(net))
    return plan(service(net)), [
        handshake(net, net.web1),
        replace(from_router, side=Side.CLIENTS),
    ]


@packet_case(V6)
def too_big_from_a_link_local_address_under_full_nat(net):
    """From the gateway, as any other."""
    source = snat(net)
    router = net.router._replace(ip="fe80::fe")
    from_router = error(net, router, net.too_big, value=1400, source=source, **tcp_quoted(net, source))
    return full(net), [
        handshake(net, net.web1, source=source),
        replace(from_router, side=Side.CLIENTS),
    ]


@packet_case()
def time_exceeded_from_a_router(net):
    """A traceroute from the backend to the client."""
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.router, net.time_exceeded, **tcp_quoted(net)),
    ]


@packet_case()
def udp_port_unreachable_from_the_client(net):
    """The client has closed its socket: the backend learns it from the client."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        answered(net, net.web1),
        error(net, net.client, net.port_unreachable, **udp_quoted(net)),
        table(row(net, net.web1, State.UDP_ANSWERED)),
    ]


@packet_case()
def parameter_problem_from_the_client(net):
    """ICMP type 12, ICMPv6 type 4."""
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.client, net.parameter_problem, value=6, **tcp_quoted(net)),
    ]


@packet_case()
def quotes_of_every_length(net):
    """Eight bytes of TCP, odd lengths, with and without the quoted checksum."""
    return plan(service(net)), [
        handshake(net, net.web1),
        [
            error(net, net.router, net.too_big, value=1400, length=net.header + length, **tcp_quoted(net))
            for length in (8, 9, 18, 20, 21, 42, 43)
        ],
    ]


@packet_case()
def quoted_udp_without_checksum(net):
    """Stays without."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        answered(net, net.web1),
        error(net, net.client, net.port_unreachable, **udp_quoted(net, sum=0)),
    ]


@packet_case(V4)
def quoted_ip_options(net):
    """The ports of the quoted packet are behind its options."""
    options = {"options": [b"\x94\x04\x00\x00"], **DATA}
    return plan(service(net)), [
        handshake(net, net.web1),
        error(net, net.router, net.time_exceeded, **tcp_quoted(net, **options)),
    ]


@packet_case()
def full_nat(net):
    """The quoted destination becomes the address and port that the backend sent to, and the error's
    source the gateway's: the backend may have no route to the client."""
    source = snat(net)
    return full(net), [
        handshake(net, net.web1, source=source),
        error(net, net.router, net.too_big, value=1400, source=source, **tcp_quoted(net, source)),
        error(
            net,
            net.client,
            net.port_unreachable,
            length=net.header + 8,
            source=source,
            **tcp_quoted(net, source),
        ),
    ]


@packet_case()
def full_nat_udp(net):
    """The same about a datagram, from the client itself."""
    source = snat(net)
    return full(net, protocol=UDP), [
        asked(net, net.web1, source=source),
        answered(net, net.web1, source=source),
        error(net, net.client, net.port_unreachable, source=source, **udp_quoted(net, source)),
    ]


@packet_case()
def about_a_connection_nobody_knows(net):
    """An error about a packet from the service, of no connection in the table: forged, or late. The
    host does not know it either."""
    seen = tcp(net.vip, net.second, "A", **DATA, ttl=LATER)
    return plan(service(net)), [
        handshake(net, net.web1),
        drop(icmp(net.second, net.vip, net.port_unreachable, quote(seen)), DropReason.ICMP_UNMATCHED),
    ]


@packet_case()
def about_the_hosts_own_packet(net):
    """An error to the VIP about a packet of the host itself, from another port: the host's."""
    seen = tcp(net.vip.at(22), net.client, "A", **DATA, ttl=LATER)
    return plan(service(net)), [leave(icmp(net.router, net.vip, net.too_big, quote(seen), value=1400))]


@packet_case()
def quotes_too_little(net):
    """Less than 8 bytes of TCP, or less than an IP header: nothing can be matched (RFC 792)."""
    seen = tcp_quoted(net)["seen"]
    return plan(service(net)), [
        handshake(net, net.web1),
        [
            drop(icmp(net.router, net.vip, net.too_big, quote(seen, length)), DropReason.BAD_ICMP_HEADER)
            for length in (net.header + 7, net.header, net.header - 1, 1, 0)
        ],
    ]


@packet_case()
def quotes_something_else(net):
    """What is quoted is not an IP packet of this version, or is one whose headers cannot be followed to
    their end."""
    seen = tcp_quoted(net)["seen"]
    other = bytes([(10 - net.version) << 4 | 5])
    bad = [patched(seen, 0, other)]
    if net.version == 4:
        bad += [patched(seen, 0, b"\x44"), patched(seen, 2, bytes(2))]
    else:
        option = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
        bad += [cut(tcp(net.vip, net.client, "A", extensions=[option], **DATA), 50)]
    return plan(service(net)), [
        handshake(net, net.web1),
        [
            drop(icmp(net.router, net.vip, net.too_big, quote(packet)), DropReason.BAD_ICMP_HEADER)
            for packet in bad
        ],
    ]


@packet_case()
def about_a_later_fragment(net):
    """A later fragment has no ports to tell whose it was (RFC 792 wants no errors about them): the
    host's, who has no use for it."""
    whole = udp(net.vip, net.client, bytes(2_000), df=False, ttl=LATER)
    later = fragments(whole, 1400, identification=0x1031)[1]
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        answered(net, net.web1),
        leave(icmp(net.client, net.vip, net.time_exceeded, quote(later))),
    ]


@packet_case()
def cut_in_its_own_header(net):
    """An ICMP message shorter than its 8 bytes is no error that could be read: the host's, who drops
    it."""
    whole = icmp(net.router, net.vip, net.too_big)
    length = (7).to_bytes(2, "big") if net.version == 6 else (27).to_bytes(2, "big")
    at = 4 if net.version == 6 else 2
    short = cut(whole, net.header + 7)
    short = type(short)(short.packet[:at] + length + short.packet[at + 2 :], short.ethertype)
    return plan(service(net)), [leave(short)]
