"""Packets that cannot go on, for their TTL or their size, and what their senders are told."""

from l4lb.model import DropReason, State
from tests.conformance.case import Need, drop, forward, packet_case, reply, table
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    HOP,
    answered,
    asked,
    bulk,
    from_client,
    handshake,
    payload,
    row,
    syn,
)
from tests.conformance.packets import TTL, fragments, gso, icmp, plain, quote, tcp, udp
from tests.conformance.plans import UDP, full, plan, service, snat
from tests.conformance.world import MTU, NARROW_MTU, V6, Host

LONGEST_ERROR = {4: 576, 6: 1280}  # bytes; RFC 1812 4.3.2.3, RFC 4443 2.4 (c)


def error(net, kind, about, to, *, value=0):
    """What the gateway says to ``to``, in the name of the VIP, about its packet."""
    room = LONGEST_ERROR[net.version] - net.header - 8
    return icmp(net.vip, to, kind, quote(about, room), value=value, **plain(net.vip))


def time_exceeded(net, packet, to):
    return reply(packet, DropReason.TTL_EXCEEDED, error(net, net.time_exceeded, packet, to))


def too_big(net, packet, to, mtu=NARROW_MTU):
    return reply(packet, DropReason.TOO_BIG, error(net, net.too_big, packet, to, value=mtu))


@packet_case()
def ttl_of_two_is_enough(net):
    """The TTL goes down by one and the packet goes on as long as it is not zero then (RFC 1812
    5.3.1, RFC 8200 3)."""
    data = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            tcp(net.client, net.vip, "A", **data, ttl=2), tcp(net.client, net.web1, "A", **data, ttl=1)
        ),
        forward(
            tcp(net.client, net.vip, "A", **data, ttl=255), tcp(net.client, net.web1, "A", **data, ttl=254)
        ),
    ]


@packet_case()
def ttl_exceeded_is_answered(net):
    """A traceroute sees the gateway as a hop: time exceeded, from the VIP, quoting the packet as it
    came. It opens no connection."""
    return plan(service(net)), [
        time_exceeded(net, tcp(net.client, net.vip, "S", seq=7, ttl=1), net.client),
        time_exceeded(net, tcp(net.client, net.vip, "S", seq=7, ttl=0), net.client),
        table(),
    ]


@packet_case()
def ttl_exceeded_of_an_established_connection(net):
    """In both directions; the connection lives on."""
    there = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": b"there"}
    back = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT, "data": b"back"}
    return plan(service(net)), [
        handshake(net, net.web1),
        time_exceeded(net, tcp(net.client, net.vip, "PA", **there, ttl=1), net.client),
        time_exceeded(net, tcp(net.web1, net.client, "PA", **back, ttl=1), net.web1),
        from_client(net, net.web1),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def ttl_exceeded_full_nat(net):
    """The backend learns of its packet to the gateway, as it sent it."""
    back = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT}
    return full(net), [
        handshake(net, net.web1, source=snat(net)),
        time_exceeded(net, tcp(net.web1, snat(net), "A", **back, ttl=1), net.web1),
    ]


@packet_case()
def ttl_exceeded_udp(net):
    """As traceroute does it by default."""
    return plan(service(net, net.web1, protocol=UDP)), [
        time_exceeded(net, udp(net.client, net.vip, ttl=1), net.client),
        asked(net, net.web1),
        time_exceeded(net, udp(net.web1, net.client, ttl=1), net.web1),
    ]


@packet_case()
def the_quote_is_as_long_as_allowed(net):
    """As much of the packet as fits into 576 bytes (RFC 1812 4.3.2.3), or the minimum MTU of IPv6
    (RFC 4443 2.4 c)."""
    long = udp(net.client, net.vip, payload(net, MTU, 8), ttl=1)
    return plan(service(net, protocol=UDP)), [time_exceeded(net, long, net.client)]


@packet_case()
def just_fits(net):
    """A packet as long as the MTU goes through in one piece."""
    data = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": payload(net, NARROW_MTU)}
    return plan(service(net, net.slim)), [
        handshake(net, net.slim),
        forward(tcp(net.client, net.vip, "A", **data), tcp(net.client, net.slim, "A", **data, ttl=HOP)),
    ]


@packet_case()
def too_big_for_the_backend_is_answered(net):
    """Fragmentation needed (RFC 1191) or packet too big (RFC 8201) with the MTU of the next hop, or
    path-MTU discovery makes a black hole. The connection lives on."""
    data = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
    return plan(service(net, net.slim)), [
        handshake(net, net.slim),
        too_big(net, tcp(net.client, net.vip, "A", **data, data=payload(net, NARROW_MTU + 1)), net.client),
        too_big(net, tcp(net.client, net.vip, "A", **data, data=payload(net, MTU)), net.client),
        from_client(net, net.slim, "PA", data=b"smaller"),
    ]


@packet_case()
def too_big_for_the_client_is_answered(net):
    """The backend learns it from the VIP, about the packet as it sent it."""
    data = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT, "data": payload(net, MTU)}
    return plan(service(net)), [
        handshake(net, net.web1, net.narrow),
        too_big(net, tcp(net.web1, net.narrow, "A", **data), net.web1),
    ]


@packet_case(V6)
def too_big_for_a_neighbour_that_is_not_known_yet(net):
    """Its link and route say how long a packet may be, whatever its Ethernet address: a packet that is
    sent along all the same is lost without a word."""
    silent = Host("2001:db8:1::1:2", 40_000)
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1, silent),
        too_big(net, udp(net.web1, silent, payload(net, MTU + 1, 8)), net.web1, mtu=MTU),
    ]


@packet_case()
def too_big_full_nat(net):
    """Both ways, with the source translated."""
    there = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": payload(net, MTU)}
    back = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT, "data": payload(net, MTU)}
    return full(net, net.slim), [
        handshake(net, net.slim, net.narrow, source=snat(net)),
        too_big(net, tcp(net.narrow, net.vip, "A", **there), net.narrow),
        too_big(net, tcp(net.slim, snat(net), "A", **back), net.slim),
    ]


@packet_case()
def too_big_udp(net):
    """A datagram that may not be cut. As the first of a flow it opens nothing."""
    long = payload(net, MTU, 8)
    return plan(service(net, net.slim, protocol=UDP)), [
        too_big(net, udp(net.client, net.vip, long), net.client),
        table(),
        asked(net, net.slim),
        answered(net, net.slim),
        too_big(net, udp(net.client, net.vip, long), net.client),
    ]


@packet_case(V6)
def fragments_too_big(net):
    """Nobody cuts a fragment of IPv6 again. The first one is answered, and whoever hears of it makes all
    of them smaller; a later one alone is dropped. One as long as the MTU goes through."""
    room = NARROW_MTU - net.header - 8  # behind the fragment header, a multiple of 8

    def pieces(to, size, identification, ttl=TTL):
        whole = udp(net.client, to, bytes(4_000), ttl=ttl)
        return fragments(whole, room, size, identification=identification)

    fits, out = pieces(net.vip, room, 0x1050), pieces(net.slim, room, 0x1050, HOP)
    longer = pieces(net.vip, room + 8, 0x1050)
    long = fragments(udp(net.client, net.vip, bytes(4_000)), room + 8, identification=0x1051)
    return plan(service(net, net.slim, protocol=UDP)), [
        forward(fits[0], out[0]),
        drop(longer[1], DropReason.TOO_BIG),
        forward(fits[1], out[1]),
        forward(fits[2], out[2]),
        too_big(net, long[0], net.client),
    ]


@packet_case()
def ttl_comes_before_size(net):
    """A packet that is at its end and too big is answered for its TTL, as routers do (the TTL is
    checked on the way in)."""
    packet = udp(net.client, net.vip, payload(net, MTU, 8), ttl=1)
    return plan(service(net, net.slim, protocol=UDP)), [time_exceeded(net, packet, net.client)]


@packet_case()
def a_syn_too_big_opens_nothing(net):
    """A SYN with more data than fits is answered, and the backend's turn is all it took."""
    packet = tcp(net.client, net.vip, "S", data=payload(net, MTU))
    return plan(service(net, net.slim)), [
        too_big(net, packet, net.client),
        table(),
        syn(net, net.slim),
    ]


@packet_case()
def gso_whose_segments_do_not_fit(net):
    """One byte too many in each segment: answered as each segment would be."""
    packet = bulk(net, net.client, net.vip, NARROW_MTU - net.header - 19)
    return plan(service(net, net.slim)), [handshake(net, net.slim), too_big(net, packet, net.client)]


@packet_case(needs=[Need.UDP_GSO])
def udp_gso_whose_datagrams_do_not_fit(net):
    """Answered as each of the datagrams would be."""
    packet = gso(udp(net.client, net.vip, bytes(5_000)), NARROW_MTU - net.header - 7)
    return plan(service(net, net.slim, protocol=UDP)), [too_big(net, packet, net.client)]
