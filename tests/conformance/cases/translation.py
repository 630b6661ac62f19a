"""Addresses and ports: what is rewritten, and that nothing else is."""

from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN

from l4lb.model import State
from tests.conformance.case import forward, packet_case, table
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    BACKEND_SEQ,
    CLIENT_NEXT,
    CLIENT_SEQ,
    HOP,
    answered,
    asked,
    from_backend,
    from_client,
    handshake,
    row,
    syn,
)
from tests.conformance.packets import patched, tagged, tcp, trailed, udp
from tests.conformance.plans import UDP, plan, service
from tests.conformance.world import V4, V6


@packet_case()
def a_tcp_connection(net):
    """The main job: SYN, SYN/ACK, ACK and data both ways. The destination becomes the backend, the
    replies come from the VIP, ports differ, TTL goes down by one, and TOS, flow label, IP
    identification, window and payload stay (DESIGN 3; RFC 1812 5.3.1)."""
    return plan(service(net)), [
        handshake(net, net.web1),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, "PA", data=b"GET / HTTP/1.0\r\n\r\n"),
        from_backend(net, net.web1, "PA", ack=CLIENT_NEXT + 18, data=b"HTTP/1.0 200 OK\r\n\r\nodd"),
        from_client(net, net.web1, seq=CLIENT_NEXT + 18, ack=BACKEND_NEXT + 22),
    ]


@packet_case()
def a_udp_flow(net):
    """Datagrams both ways; the flow is one once the client has gone on after an answer."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        table(row(net, net.web1, State.UDP_NEW)),
        answered(net, net.web1),
        table(row(net, net.web1, State.UDP_ANSWERED)),
        asked(net, net.web1),
        table(row(net, net.web1, State.UDP)),
        answered(net, net.web1),
        asked(net, net.web1),
    ]


@packet_case()
def tcp_and_udp_on_one_port(net):
    """A service has one protocol: TCP and UDP on the same VIP and port are two, with tables of their
    own for the same four numbers."""
    services = plan(service(net), service(net, net.web1, protocol=UDP))
    return services, [handshake(net, net.web1), asked(net, net.web1), answered(net, net.web1)]


@packet_case()
def tcp_options_stay(net):
    """The gateway is no endpoint: MSS, window scale, SACK and timestamps are not its business."""
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)]
    return plan(service(net)), [
        forward(
            tcp(net.client, net.vip, "S", seq=CLIENT_SEQ, tcp_options=options),
            tcp(net.client, net.web1, "S", seq=CLIENT_SEQ, tcp_options=options, ttl=HOP),
        )
    ]


@packet_case()
def syn_with_data(net):
    """TCP Fast Open (RFC 7413): a SYN may carry data."""
    return plan(service(net)), [
        forward(
            tcp(net.client, net.vip, "S", data=b"early"),
            tcp(net.client, net.web1, "S", data=b"early", ttl=HOP),
        )
    ]


@packet_case()
def ecn_setup_syn(net):
    """ECE and CWR on a SYN negotiate ECN (RFC 3168 6.1.1); they do not make it invalid."""
    return plan(service(net)), [
        forward(tcp(net.client, net.vip, "SEC"), tcp(net.client, net.web1, "SEC", ttl=HOP)),
        forward(tcp(net.web1, net.client, "SAE", ack=1), tcp(net.vip, net.client, "SAE", ack=1, ttl=HOP)),
    ]


@packet_case()
def urgent_data(net):
    """URG with ACK is data like any other."""
    return plan(service(net)), [handshake(net, net.web1), from_client(net, net.web1, "PAU", data=b"!")]


@packet_case(V4)
def ip_options(net):
    """A packet with IPv4 options has its ports further back; the options go through (RFC 1812
    4.2.2.1). On a SYN and on data of an established connection."""
    options = [b"\x94\x04\x00\x00", b"\x01\x01\x01\x00"]  # router alert (RFC 2113), padding
    numbers = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": b"x", "options": options}
    return plan(service(net)), [
        forward(
            tcp(net.client, net.vip, "S", seq=CLIENT_SEQ, options=options),
            tcp(net.client, net.web1, "S", seq=CLIENT_SEQ, options=options, ttl=HOP),
        ),
        handshake(net, net.web1)[1:],
        forward(
            tcp(net.client, net.vip, "PA", **numbers), tcp(net.client, net.web1, "PA", **numbers, ttl=HOP)
        ),
        forward(
            tcp(net.web1, net.client, "A", seq=BACKEND_NEXT, ack=CLIENT_NEXT + 1, options=options),
            tcp(net.vip, net.client, "A", seq=BACKEND_NEXT, ack=CLIENT_NEXT + 1, options=options, ttl=HOP),
        ),
    ]


@packet_case(V6)
def extension_headers(net):
    """IPv6 extension headers stand between the IP header and TCP: they are walked and kept
    (RFC 8200 4). Their length does not count in the pseudo-header."""
    chain = [
        IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
        IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),
    ]
    numbers = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": b"odd", "extensions": chain}
    return plan(service(net)), [
        forward(
            tcp(net.client, net.vip, "S", seq=CLIENT_SEQ, extensions=chain),
            tcp(net.client, net.web1, "S", seq=CLIENT_SEQ, extensions=chain, ttl=HOP),
        ),
        handshake(net, net.web1)[1:],
        forward(
            tcp(net.client, net.vip, "PA", **numbers), tcp(net.client, net.web1, "PA", **numbers, ttl=HOP)
        ),
    ]


@packet_case(V6)
def extension_headers_before_udp(net):
    """As for TCP."""
    chain = [IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])]
    return plan(service(net, protocol=UDP)), [
        forward(
            udp(net.client, net.vip, extensions=chain), udp(net.client, net.web1, extensions=chain, ttl=HOP)
        ),
        forward(
            udp(net.web1, net.client, extensions=chain), udp(net.vip, net.client, extensions=chain, ttl=HOP)
        ),
    ]


@packet_case()
def empty_datagrams(net):
    """UDP without payload is a datagram like any other."""
    steps = [
        forward(udp(net.client, net.vip, b""), udp(net.client, net.web1, b"", ttl=HOP)),
        forward(udp(net.web1, net.client, b""), udp(net.vip, net.client, b"", ttl=HOP)),
    ]
    return plan(service(net, protocol=UDP)), [*steps, *steps, *steps]


@packet_case()
def ethernet_trailer(net):
    """Ethernet pads short frames, and the IP length says where the packet ends: the trailer is not
    part of it and is not sent on (RFC 894), whatever is in it. On a SYN and on an established
    connection."""
    ack = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
    return plan(service(net)), [
        forward(
            trailed(tcp(net.client, net.vip, "S", seq=CLIENT_SEQ), b"\xff" * 6),
            tcp(net.client, net.web1, "S", seq=CLIENT_SEQ, ttl=HOP),
        ),
        handshake(net, net.web1)[1:],
        forward(
            trailed(tcp(net.client, net.vip, "A", **ack), b"\xff" * 7),
            tcp(net.client, net.web1, "A", **ack, ttl=HOP),
        ),
    ]


@packet_case()
def zero_window_and_out_of_window(net):
    """A closed window and its probes, and segments that lie outside of any window, go through: the
    endpoints judge them, and asymmetric paths must not break (RFC 5382 REQ-4 is about filtering)."""
    far = {"seq": CLIENT_NEXT + 0x4000_0000, "ack": BACKEND_NEXT - 0x4000_0000}
    closed = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT, "window": 0}
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(tcp(net.web1, net.client, "A", **closed), tcp(net.vip, net.client, "A", **closed, ttl=HOP)),
        from_client(net, net.web1, seq=CLIENT_SEQ, data=b"?"),  # a probe: one byte before the window
        forward(
            tcp(net.client, net.vip, "PA", **far, data=b"far"),
            tcp(net.client, net.web1, "PA", **far, data=b"far", ttl=HOP),
        ),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def a_frame_longer_than_its_packet_is_cut(net):
    """The IP length rules, also for what looks like more data of an established connection."""
    ack = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
    long = tcp(net.client, net.vip, "PA", **ack, data=b"short")
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            trailed(long, b"GET / HTTP/1.0"), tcp(net.client, net.web1, "PA", **ack, data=b"short", ttl=HOP)
        ),
        syn(net, net.web2, net.second),
    ]


@packet_case()
def udp_length_shorter_than_the_packet(net):
    """What lies between the end of the UDP datagram and the end of the IP packet goes along: it is
    payload of IP (RFC 768 does not forbid it, RFC 9868 makes use of it)."""

    def shortened(source, destination, **header):
        datagram = udp(source, destination, b"12345678", sum=0, **header)
        return patched(datagram, net.header + 4, (12).to_bytes(2, "big"))

    steps = [
        forward(shortened(net.client, net.vip), shortened(net.client, net.web1, ttl=HOP)),
        forward(shortened(net.web1, net.client), shortened(net.vip, net.client, ttl=HOP)),
    ]
    return plan(service(net, protocol=UDP)), [*steps, *steps, *steps]


@packet_case()
def priority_tagged(net):
    """A frame with a priority (IEEE 802.1Q) but no VLAN has the tag of VLAN 0. It is the interface's own,
    and goes on without the tag, as through Linux's own forwarding."""
    syn, answer = {"seq": CLIENT_SEQ}, {"seq": BACKEND_SEQ, "ack": CLIENT_NEXT}
    data = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": b"urgent"}
    return plan(service(net)), [
        forward(
            tagged(tcp(net.client, net.vip, "S", **syn), 5 << 13),
            tcp(net.client, net.web1, "S", **syn, ttl=HOP),
        ),
        forward(
            tagged(tcp(net.web1, net.client, "SA", **answer), 7 << 13),
            tcp(net.vip, net.client, "SA", **answer, ttl=HOP),
        ),
        forward(
            tagged(tcp(net.client, net.vip, "PA", **data), 0),
            tcp(net.client, net.web1, "PA", **data, ttl=HOP),
        ),
    ]
