"""Packets longer than the next hop takes: cut where they may be, and GSO frames, which only look it."""

from scapy.layers.inet import IPOption_NOP, IPOption_RR

from tests.conformance.case import Need, forward, packet_case
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    HOP,
    answered,
    bulk,
    handshake,
    payload,
)
from tests.conformance.packets import ETHERNET, fragments, gso, partial, tcp, udp
from tests.conformance.plans import UDP, plan, service
from tests.conformance.world import MTU, NARROW_MTU, V4


@packet_case(V4)
def fragmented_when_it_may_be(net):
    """Without Don't Fragment a router cuts what is too long (RFC 791 3.2, RFC 1812 4.2.2.7): the
    identification stays, all but the last piece have a multiple of 8 bytes."""
    data = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": payload(net, MTU), "df": False, "id": 0x7001}
    out = tcp(net.client, net.slim, "A", **data, ttl=HOP)
    return plan(service(net, net.slim)), [
        handshake(net, net.slim),
        forward(tcp(net.client, net.vip, "A", **data), *fragments(out, 1376, identification=0x7001)),
    ]


@packet_case(V4)
def fragmented_udp(net):
    """The first datagram of a flow, longer than two pieces: possible where the client's link has
    jumbo frames, or a veth's."""
    data = payload(net, 3_500, 8)
    to_client = udp(net.vip, net.narrow, data, ttl=HOP, df=False, id=0x7003)
    to_backend = udp(net.narrow, net.slim, data, ttl=HOP, df=False, id=0x7002)
    return plan(service(net, net.slim, protocol=UDP)), [
        forward(
            udp(net.narrow, net.vip, data, df=False, id=0x7002),
            *fragments(to_backend, 1376, 1376, identification=0x7002),
        ),
        forward(
            udp(net.slim, net.narrow, data, df=False, id=0x7003),
            *fragments(to_client, 1376, 1376, identification=0x7003),
        ),
    ]


@packet_case(V4)
def a_partial_checksum_is_completed_before_cutting(net):
    """No receiver can sum up what it does not have: a datagram with a partial checksum gets a full
    one before it is cut."""
    data = payload(net, MTU, 8)
    return plan(service(net, net.slim, protocol=UDP)), [
        forward(
            partial(udp(net.client, net.vip, data, df=False)),
            *fragments(udp(net.client, net.slim, data, df=False, ttl=HOP), 1376, identification=0x4C34),
        ),
    ]


@packet_case(V4)
def a_datagram_without_checksum_is_cut(net):
    """And stays without."""
    data = payload(net, MTU, 8)
    return plan(service(net, net.slim, protocol=UDP)), [
        forward(
            udp(net.client, net.vip, data, df=False, sum=0),
            *fragments(
                udp(net.client, net.slim, data, df=False, ttl=HOP, sum=0), 1376, identification=0x4C34
            ),
        ),
    ]


@packet_case(V4)
def a_fragment_is_cut_again(net):
    """A fragment can be too long for the next hop too: the pieces keep their place in the whole, and
    only the last piece of the last fragment is the end."""
    whole = udp(net.client, net.vip, payload(net, 2_900, 8), df=False)
    out = udp(net.client, net.slim, payload(net, 2_900, 8), df=False, ttl=HOP)
    first, second = fragments(whole, 1480, identification=0x7004)
    pieces = fragments(out, 1376, 104, 1376, identification=0x7004)
    return plan(service(net, net.slim, protocol=UDP)), [
        forward(first, *pieces[:2]),
        forward(second, *pieces[2:]),
    ]


@packet_case(V4)
def options_of_a_cut_packet(net):
    """Options without the copied flag belong into the first fragment only (RFC 791 3.1): in the
    others no-operations stand in for a record route, and router alert is copied."""
    alert = b"\x94\x04\x00\x00"
    record = IPOption_RR(routers=["0.0.0.0"])
    copied = [alert, *[IPOption_NOP()] * 8]
    fields = {"df": False, "ttl": HOP, "data": payload(net, MTU)}
    whole = [alert, record, IPOption_NOP()]
    first = fragments(tcp(net.client, net.slim, "S", options=whole, **fields), 1368, identification=0x7005)
    rest = fragments(tcp(net.client, net.slim, "S", options=copied, **fields), 1368, identification=0x7005)
    packet = tcp(net.client, net.vip, "S", options=whole, df=False, id=0x7005, data=payload(net, MTU))
    return plan(service(net, net.slim)), [forward(packet, first[0], rest[1])]


@packet_case()
def gso_whose_segments_fit(net):
    """A frame that stands for many packets passes in one piece as long as each of those fits into
    the MTU (DESIGN 6), its sizes unchanged."""
    size = NARROW_MTU - net.header - 20
    return plan(service(net, net.slim)), [
        handshake(net, net.slim),
        forward(bulk(net, net.client, net.vip, size), bulk(net, net.client, net.slim, size, ttl=HOP)),
    ]


@packet_case()
def gso_to_the_client(net):
    """The bulk of most traffic, from the backend, with TCP options that count in each segment."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
    numbers = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT, "data": bytes(64_000), "tcp_options": options}
    size = MTU - net.header - 32
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            gso(tcp(net.web1, net.client, "A", **numbers), size),
            gso(tcp(net.vip, net.client, "A", **numbers, ttl=HOP), size),
        ),
    ]


@packet_case()
def gso_as_large_as_it_gets(net):
    """64 KB in one frame, Ethernet header included: Linux makes no larger ones (GSO_LEGACY_MAX_SIZE)."""
    numbers = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": payload(net, 65_535 - ETHERNET)}
    size = MTU - net.header - 20
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            gso(tcp(net.client, net.vip, "A", **numbers), size),
            gso(tcp(net.client, net.web1, "A", **numbers, ttl=HOP), size),
        ),
    ]


@packet_case(V4, needs=[Need.SMALLER_SEGMENTS])
def gso_cut_smaller(net):
    """Without Don't Fragment the frame stands for smaller segments from here on: TCP is a stream, so
    nobody can tell, and no fragments are needed."""
    size = NARROW_MTU - net.header - 20
    return plan(service(net, net.slim)), [
        handshake(net, net.slim),
        forward(
            bulk(net, net.client, net.vip, 1460, df=False),
            bulk(net, net.client, net.slim, size, df=False, ttl=HOP),
        ),
    ]


@packet_case(needs=[Need.UDP_GSO])
def udp_gso_whose_datagrams_fit(net):
    """QUIC servers send many datagrams in one frame (UDP_SEGMENT)."""
    data, size = bytes(5_000), NARROW_MTU - net.header - 8
    steps = [
        forward(
            gso(udp(net.client, net.vip, data), size), gso(udp(net.client, net.slim, data, ttl=HOP), size)
        ),
        answered(net, net.slim),
    ]
    return plan(service(net, net.slim, protocol=UDP)), [*steps, *steps, *steps]


@packet_case(V4, needs=[Need.UDP_GSO])
def udp_gso_cut_into_fragments(net):
    """Datagrams keep their boundaries: without Don't Fragment each of them is cut into fragments of
    its own, with an identification of its own (counted up, as the kernel's segmentation does)."""
    sizes, data = (1472, 1472, 300), bytes(range(256)) * 13
    packet = gso(udp(net.client, net.vip, data[: sum(sizes)], df=False, id=0x7010), 1472)
    out, start = [], 0
    for number, size in enumerate(sizes):
        body, identification = data[start : start + size], 0x7010 + number
        datagram = udp(net.client, net.slim, body, df=False, ttl=HOP, id=identification)
        out += fragments(datagram, 1376, identification=identification) if size > 1372 else [datagram]
        start += size
    return plan(service(net, net.slim, protocol=UDP)), [forward(packet, *out)]
