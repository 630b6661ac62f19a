"""What is counted for each backend: packets and IP bytes, as they came in, that were forwarded."""

from l4lb.model import DropReason
from tests.conformance.case import drop, forward, packet_case, reply, traffic
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    HOP,
    asked,
    bulk,
    from_backend,
    from_client,
    handshake,
)
from tests.conformance.packets import fragments, icmp, plain, quote, tcp, trailed, udp
from tests.conformance.plans import UDP, plan, service
from tests.conformance.world import MTU


@packet_case()
def of_a_connection(net):
    """Three packets of the handshake, data of 8 and 6 bytes, and the same on the fast path."""
    header = net.header + 20
    return plan(service(net)), [
        handshake(net, net.web1),
        traffic(net.web1, packets=(2, 1), bytes=(2 * header, header)),
        from_client(net, net.web1, "PA", data=b"question"),
        from_backend(net, net.web1, "PA", ack=CLIENT_NEXT + 8, data=b"answer"),
        traffic(net.web1, packets=(3, 2), bytes=(3 * header + 8, 2 * header + 6)),
        traffic(net.web2, packets=(0, 0), bytes=(0, 0)),
    ]


@packet_case()
def of_a_gso_frame(net):
    """It is one packet to the gateway, of all its bytes."""
    size, header = MTU - net.header - 20, net.header + 20
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(bulk(net, net.client, net.vip, size), bulk(net, net.client, net.web1, size, ttl=HOP)),
        traffic(net.web1, packets=(3, 1), bytes=(3 * header + 20_001, header)),
    ]


@packet_case()
def without_the_trailer(net):
    """What Ethernet adds does not count."""
    data = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
    header = net.header + 20
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            trailed(tcp(net.client, net.vip, "A", **data), bytes(20)),
            tcp(net.client, net.web1, "A", **data, ttl=HOP),
        ),
        traffic(net.web1, packets=(3, 1), bytes=(3 * header, header)),
    ]


@packet_case()
def of_fragments_and_errors(net):
    """Each fragment, and ICMP errors about the connection, in the direction that they go."""
    before = fragments(udp(net.client, net.vip, bytes(2_000), df=False), 1400, identification=0x1040)
    after = fragments(
        udp(net.client, net.web1, bytes(2_000), df=False, ttl=HOP), 1400, identification=0x1040
    )
    seen, sent = (udp(net.client, to, b"question", ttl=HOP) for to in (net.web1, net.vip))
    error = icmp(net.web1, net.client, net.port_unreachable, quote(seen))
    fragment_bytes = sum(len(fragment.packet) for fragment in before)
    return plan(service(net, protocol=UDP)), [
        [forward(packet, out) for packet, out in zip(before, after, strict=True)],
        traffic(net.web1, packets=(2, 0), bytes=(fragment_bytes, 0)),
        asked(net, net.web1),
        forward(error, icmp(net.vip, net.client, net.port_unreachable, quote(sent), ttl=HOP)),
        traffic(
            net.web1,
            packets=(3, 1),
            bytes=(fragment_bytes + net.header + 16, len(error.packet)),
        ),
    ]


@packet_case()
def nothing_that_was_not_forwarded(net):
    """Neither what is dropped nor what is answered."""
    late = tcp(net.client, net.vip, "A", seq=CLIENT_NEXT, ack=BACKEND_NEXT, ttl=1)
    answer = icmp(net.vip, net.client, net.time_exceeded, quote(late), **plain(net.vip))
    header = net.header + 20
    return plan(service(net)), [
        handshake(net, net.web1),
        reply(late, DropReason.TTL_EXCEEDED, answer),
        drop(tcp(net.client, net.vip, "SF"), DropReason.BAD_TCP_FLAGS),
        traffic(net.web1, packets=(2, 1), bytes=(2 * header, header)),
    ]
