"""Full, partial and missing checksums: repaired by what changed (RFC 1624; DESIGN 6)."""

from tests.conformance.case import forward, packet_case
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    HOP,
    answered,
    from_client,
    handshake,
)
from tests.conformance.packets import damaged, data_summing_to, partial, tcp, udp
from tests.conformance.plans import UDP, full, plan, service, snat


@packet_case()
def partial_checksums(net):
    """A frame from a container or a virtual machine holds only the pseudo-header's sum (DESIGN 6):
    addresses add to it, ports are not in it. It leaves partial, as the next kernel expects."""
    ack = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": b"odd"}
    back = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT + 3, "data": b"even"}
    return plan(service(net)), [
        forward(
            partial(tcp(net.client, net.vip, "S", seq=CLIENT_SEQ)),
            partial(tcp(net.client, net.web1, "S", seq=CLIENT_SEQ, ttl=HOP)),
        ),
        handshake(net, net.web1)[1:],
        forward(
            partial(tcp(net.client, net.vip, "PA", **ack)),
            partial(tcp(net.client, net.web1, "PA", **ack, ttl=HOP)),
        ),
        forward(
            partial(tcp(net.web1, net.client, "PA", **back)),
            partial(tcp(net.vip, net.client, "PA", **back, ttl=HOP)),
        ),
    ]


@packet_case()
def partial_checksums_full_nat(net):
    """Both addresses change: both add to the partial sum."""
    ack = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": b"odd"}
    return full(net), [
        handshake(net, net.web1, source=snat(net)),
        forward(
            partial(tcp(net.client, net.vip, "PA", **ack)),
            partial(tcp(snat(net), net.web1, "PA", **ack, ttl=HOP)),
        ),
    ]


@packet_case()
def partial_checksums_udp(net):
    """UDP as TCP, on the first datagrams and on later ones."""
    steps = [
        forward(partial(udp(net.client, net.vip)), partial(udp(net.client, net.web1, ttl=HOP))),
        forward(partial(udp(net.web1, net.client)), partial(udp(net.vip, net.client, ttl=HOP))),
    ]
    return plan(service(net, protocol=UDP)), [*steps, *steps, *steps]


@packet_case()
def udp_without_checksum(net):
    """A UDP checksum of 0 means none and stays 0 (RFC 768; over IPv6 in tunnels, RFC 6935)."""
    steps = [
        forward(udp(net.client, net.vip, sum=0), udp(net.client, net.web1, sum=0, ttl=HOP)),
        forward(udp(net.web1, net.client, sum=0), udp(net.vip, net.client, sum=0, ttl=HOP)),
    ]
    return plan(service(net, protocol=UDP)), [*steps, *steps, *steps]


@packet_case()
def udp_checksum_that_becomes_zero(net):
    """A computed checksum of 0 is sent as 0xffff (RFC 768), or the receiver would take it for none."""
    data = data_summing_to(0xFFFF, lambda data: udp(net.client, net.web1, data, ttl=HOP))
    steps = [
        forward(udp(net.client, net.vip, data), udp(net.client, net.web1, data, ttl=HOP)),
        answered(net, net.web1),
    ]
    return plan(service(net, protocol=UDP)), [*steps, *steps, *steps]


@packet_case()
def tcp_checksum_that_becomes_zero(net):
    """For TCP 0 is a checksum like any other; RFC 1624 is about updates that get it wrong."""
    ack = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
    data = data_summing_to(0, lambda data: tcp(net.client, net.web1, "PA", **ack, data=data, ttl=HOP))
    return plan(service(net)), [handshake(net, net.web1), from_client(net, net.web1, "PA", data=data)]


@packet_case()
def a_wrong_checksum_stays_wrong(net):
    """Checksums are repaired by what changed, not computed anew: damage from before the gateway must
    be seen by the receiver (RFC 1624; RFC 3022 4.1)."""
    ack = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT, "data": b"damaged"}
    field = net.header + 16
    return plan(service(net)), [
        handshake(net, net.web1),
        forward(
            damaged(tcp(net.client, net.vip, "PA", **ack), field),
            damaged(tcp(net.client, net.web1, "PA", **ack, ttl=HOP), field),
        ),
    ]
