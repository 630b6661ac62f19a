"""TTL, path MTU, GSO: packets that cannot go on as they are."""

from scapy.layers.inet import IPOption_NOP, IPOption_RR

from l4lb.model import DropReason, State
from tests.conformance.case import Need, forward, packet_case, reply, table
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    HOP,
    answered,
    asked,
    from_client,
    handshake,
    row,
    syn,
)
from tests.conformance.packets import TTL, fragments, gso, icmp, partial, plain, quote, tcp, udp
from tests.conformance.plans import UDP, full, plan, service, snat
from tests.conformance.world import MTU, NARROW_MTU, V4

LONGEST_ERROR = {4: 576, 6: 1280}  # bytes; RFC 1812 4.3.2.3, RFC 4443 2.4 (c)


def error(net, kind, about, to, *, value=0):
    """What the gateway says to ``to``, in the name of the VIP, about its packet."""
    room = LONGEST_ERROR[net.version] - net.header - 8
    return icmp(net.vip, to, kind, quote(about, room), value=value, **plain(net.vip))


def time_exceeded(net, packet, to):
    return reply(packet, DropReason.TTL_EXCEEDED, error(net, net.time_exceeded, packet, to))


def too_big(net, packet, to, mtu=NARROW_MTU):
    return reply(packet, DropReason.TOO_BIG, error(net, net.too_big, packet, to, value=mtu))


def payload(net, length, transport=20):
    """As much as makes a packet of ``length`` bytes."""
    return bytes(index % 251 for index in range(length - net.header - transport))


# -- TTL -------------------------------------------------------------------------------------------


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


# -- larger than the path --------------------------------------------------------------------------


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


@packet_case()
def ttl_comes_before_size(net):
    """A packet that is at its end and too big is answered for its TTL, as routers do (the TTL is
    checked on the way in)."""
    packet = udp(net.client, net.vip, payload(net, MTU, 8), ttl=1)
    return plan(service(net, net.slim, protocol=UDP)), [time_exceeded(net, packet, net.client)]


# -- cut on the way --------------------------------------------------------------------------------


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


# -- GSO -------------------------------------------------------------------------------------------


def bulk(net, source, destination, size, *, ttl=TTL, **fields):
    """A GSO frame: 20 kB in segments of ``size`` bytes."""
    numbers = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
    data = bytes(20_001)
    return gso(tcp(source, destination, "PA", **numbers, data=data, ttl=ttl, **fields), size)


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
def gso_whose_segments_do_not_fit(net):
    """One byte too many in each segment: answered as each segment would be."""
    packet = bulk(net, net.client, net.vip, NARROW_MTU - net.header - 19)
    return plan(service(net, net.slim)), [handshake(net, net.slim), too_big(net, packet, net.client)]


@packet_case(V4)
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
    return plan(service(net, net.slim, protocol=UDP)), [*steps, *steps]


@packet_case(needs=[Need.UDP_GSO])
def udp_gso_whose_datagrams_do_not_fit(net):
    """Answered as each of the datagrams would be."""
    packet = gso(udp(net.client, net.vip, bytes(5_000)), NARROW_MTU - net.header - 7)
    return plan(service(net, net.slim, protocol=UDP)), [too_big(net, packet, net.client)]


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


@packet_case()
def a_syn_too_big_opens_nothing(net):
    """A SYN with more data than fits is answered, and the backend's turn is all it took."""
    packet = tcp(net.client, net.vip, "S", data=payload(net, MTU))
    return plan(service(net, net.slim)), [
        too_big(net, packet, net.client),
        table(),
        syn(net, net.slim),
    ]
