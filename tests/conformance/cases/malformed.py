"""Packets that are damaged or made to do damage: dropped by reason, never forwarded, never a crash.

An engine may leave what the host drops anyway to the host, where it is damaged so far down that it
cannot be seen whose it is.
"""

from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN

from l4lb.model import DropReason, State
from tests.conformance.case import change, drop, leave, packet_case, table
from tests.conformance.exchanges import BACKEND_NEXT, CLIENT_NEXT, from_client, handshake, row
from tests.conformance.packets import cut, fragments, icmp, patched, quote, tcp, udp
from tests.conformance.plans import UDP, plan, service
from tests.conformance.world import V4, V6, Host, Side

ACK = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}


def dropped(reason, *packets):
    return [drop(packet, reason, or_pass=True) for packet in packets]


def resized(net, packet, length):
    """Cut to ``length`` bytes, and with an IP header that agrees."""
    field = (2, length) if net.version == 4 else (4, length - 40)
    return patched(cut(packet, length), field[0], field[1].to_bytes(2, "big"))


@packet_case()
def truncated_everywhere(net):
    """The frame ends before the packet does, at every byte behind the IP header, which shows whose it
    is."""
    whole = tcp(net.client, net.vip, "S", data=b"x", tcp_options=[("MSS", 1460)])
    lengths = range(net.header, len(whole.packet))
    return plan(service(net)), [
        dropped(DropReason.TRUNCATED, *(cut(whole, length) for length in lengths)),
        table(),
    ]


@packet_case()
def truncated_in_the_ip_header(net):
    """What has no whole IP header is nobody's."""
    whole = tcp(net.client, net.vip, "S")
    return plan(service(net)), [[leave(cut(whole, length)) for length in range(1, net.header)]]


@packet_case()
def truncated_in_an_established_connection(net):
    """The fast path must not be taken for it either, from both ends."""
    there = tcp(net.client, net.vip, "PA", **ACK, data=b"data")
    back = tcp(net.web1, net.client, "PA", seq=BACKEND_NEXT, ack=CLIENT_NEXT, data=b"data")
    lengths = range(net.header, len(there.packet))
    return plan(service(net)), [
        handshake(net, net.web1),
        dropped(DropReason.TRUNCATED, *(cut(there, length) for length in lengths)),
        dropped(DropReason.TRUNCATED, *(cut(back, length) for length in lengths)),
        from_client(net, net.web1),
    ]


@packet_case()
def truncated_udp(net):
    """The same for datagrams."""
    whole = udp(net.client, net.vip, b"data")
    lengths = range(net.header, len(whole.packet))
    return plan(service(net, protocol=UDP)), [
        dropped(DropReason.TRUNCATED, *(cut(whole, length) for length in lengths)),
        table(),
    ]


@packet_case()
def truncated_from_a_backend_that_was_removed(net):
    """Nobody's from the change of plan on, though its connections may not all be reset yet."""
    whole = tcp(net.web1, net.client, "PA", data=b"data")
    return plan(service(net)), [
        dropped(DropReason.TRUNCATED, cut(whole, net.header + 20)),
        change(plan(service(net, net.web2))),
        leave(cut(whole, net.header + 20)),
    ]


@packet_case()
def too_short_for_tcp(net):
    """An IP packet that says it is shorter than a TCP header."""
    whole = tcp(net.client, net.vip, "S")
    return plan(service(net)), [
        dropped(
            DropReason.BAD_TCP_HEADER,
            *(resized(net, whole, net.header + length) for length in range(20)),
        ),
        table(),
    ]


@packet_case()
def too_short_for_udp(net):
    """Or than a UDP header."""
    whole = udp(net.client, net.vip, b"")
    return plan(service(net, protocol=UDP)), [
        dropped(
            DropReason.BAD_UDP_HEADER,
            *(resized(net, whole, net.header + length) for length in range(8)),
        ),
        table(),
    ]


@packet_case()
def tcp_data_offset(net):
    """A TCP header that is shorter than 20 bytes, or longer than the packet; in an established
    connection too."""
    packet = tcp(net.client, net.vip, "A", **ACK, data=b"1234")
    at = net.header + 12
    bad = [patched(packet, at, bytes([offset << 4, 0x10])) for offset in (0, 1, 4, 7, 15)]
    return plan(service(net)), [
        [drop(packet, DropReason.BAD_TCP_HEADER) for packet in bad],
        handshake(net, net.web1),
        [drop(packet, DropReason.BAD_TCP_HEADER) for packet in bad],
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def udp_length(net):
    """A UDP length below 8, or beyond the packet, of the first datagram and of a known flow."""
    packet = udp(net.client, net.vip, b"1234")
    at = net.header + 4
    bad = [patched(packet, at, length.to_bytes(2, "big")) for length in (0, 7, 13, 0xFFFF)]
    return plan(service(net, protocol=UDP)), [[drop(packet, DropReason.BAD_UDP_HEADER) for packet in bad]]


@packet_case(V4)
def ipv4_header_length(net):
    """A header shorter than 20 bytes, longer than the packet, or than its own total length."""
    packet = tcp(net.client, net.vip, "S")
    return plan(service(net)), [
        dropped(
            DropReason.BAD_IP_HEADER, *(patched(packet, 0, bytes([0x40 | words])) for words in range(5))
        ),
        dropped(DropReason.BAD_IP_HEADER, patched(packet, 2, (19).to_bytes(2, "big"))),
        dropped(DropReason.BAD_IP_HEADER, patched(packet, 2, bytes(2))),
        dropped(DropReason.BAD_IP_HEADER, patched(packet, 0, b"\x4f")),
        table(),
    ]


@packet_case(V6)
def payload_length(net):
    """Zero (a jumbogram, which no Ethernet carries), or beyond the frame."""
    packet = tcp(net.client, net.vip, "S")
    return plan(service(net)), [
        dropped(DropReason.BAD_TCP_HEADER, patched(packet, 4, bytes(2))),
        dropped(DropReason.TRUNCATED, patched(packet, 4, (21).to_bytes(2, "big"))),
        dropped(DropReason.TRUNCATED, patched(packet, 4, b"\xff\xff")),
    ]


@packet_case(V6)
def extension_headers(net):
    """A chain that leads out of the packet, has no end, or has two fragment headers."""
    option = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
    beyond = tcp(net.client, net.vip, "S", extensions=[option])
    twice = tcp(net.client, net.vip, "S", extensions=[IPv6ExtHdrFragment(m=1), IPv6ExtHdrFragment(m=1)])
    return plan(service(net)), [
        dropped(DropReason.BAD_EXTENSION_HEADERS, patched(beyond, 41, b"\xff")),
        dropped(DropReason.BAD_EXTENSION_HEADERS, tcp(net.client, net.vip, "S", extensions=[option] * 12)),
        dropped(DropReason.BAD_EXTENSION_HEADERS, twice),
        dropped(DropReason.BAD_EXTENSION_HEADERS, resized(net, beyond, 44)),
        table(),
    ]


@packet_case()
def icmp_error_truncated(net):
    """An ICMP error whose frame ends early."""
    seen = tcp(net.client, net.web1, "A", **ACK)
    error = icmp(net.border, net.client, net.time_exceeded, quote(seen))
    return plan(service(net)), [
        handshake(net, net.web1),
        [leave(cut(error, length)) for length in range(net.header + 8, len(error.packet), 7)],
    ]


@packet_case()
def icmp_error_in_fragments(net):
    """Errors are short enough never to be fragmented: one that is, to the VIP, is not translated."""
    seen = tcp(net.vip, net.client, "A", seq=BACKEND_NEXT, ack=CLIENT_NEXT, data=bytes(200))
    error = icmp(
        net.router, net.vip, net.time_exceeded, quote(seen), **({"df": False} if net.version == 4 else {})
    )
    first, _ = fragments(error, 160, identification=0x1020)
    return plan(service(net)), [handshake(net, net.web1), dropped(DropReason.BAD_ICMP_HEADER, first)]


@packet_case()
def a_source_that_no_host_can_have(net):
    """Multicast, loopback, unspecified and broadcast addresses, and the destination's own: a forged
    packet that must be neither forwarded nor answered (RFC 1812 5.3.7, RFC 1122 3.2.1.3, RFC 4291
    2.5.2, 2.5.3, 2.7)."""
    addresses = {
        4: ("224.0.0.1", "239.1.2.3", "255.255.255.255", "127.0.0.1", "0.0.0.0", net.vip.ip),
        6: ("ff02::1", "ff0e::5", "::1", "::", net.vip.ip),
    }[net.version]
    ttl_exceeded = [tcp(Host(address, 40_000), net.vip, "S", ttl=1) for address in addresses]
    return plan(service(net), service(net, protocol=UDP)), [
        [
            drop(packet, DropReason.BAD_IP_HEADER, or_pass=True, side=Side.CLIENTS)
            for address in addresses
            for packet in (
                tcp(Host(address, 40_000), net.vip, "S"),
                tcp(Host(address, 40_000), net.vip, "A"),
                udp(Host(address, 40_000), net.vip),
            )
        ],
        [
            drop(packet, DropReason.BAD_IP_HEADER, or_pass=True, side=Side.CLIENTS)
            for packet in ttl_exceeded
        ],
        table(),
    ]


@packet_case(V4)
def from_the_broadcast_address_of_a_subnet(net):
    """Only the routes show that it is one: what would be an answer to all is not sent (RFC 1122 3.2.1.3,
    3.2.2)."""
    everybody = Host("10.1.0.255", 40_000)
    return plan(service(net)), [drop(tcp(everybody, net.vip, "A"), DropReason.NO_CONNECTION), table()]


@packet_case()
def land(net):
    """A SYN from the service to itself, address and port (RFC 3330's "LAND")."""
    return plan(service(net)), [
        drop(tcp(net.vip, net.vip, "S"), DropReason.BAD_IP_HEADER, or_pass=True, side=Side.CLIENTS),
        table(),
    ]
