"""Full NAT: the source is translated as well, and source ports must be found for it (RFC 4787, RFC
6056). Also where destination NAT needs a port, because two connections would look alike."""

from dataclasses import replace

from l4lb.model import DropReason, State
from tests.conformance.case import Chosen, Row, drop, forward, leave, packet_case, table, wait
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    HOP,
    answered,
    asked,
    closing,
    from_backend,
    from_client,
    handshake,
    row,
    syn,
    syn_ack,
)
from tests.conformance.packets import tcp, udp
from tests.conformance.plans import FULL, UDP, full, plan, service, snat


@packet_case()
def a_tcp_connection(net):
    """The backend sees the gateway, and needs no route to its clients."""
    source = snat(net)
    return full(net), [
        handshake(net, net.web1, source=source),
        table(Row(net.client, net.web1, State.ESTABLISHED, source)),
        from_client(net, net.web1, "PA", source=source, data=b"question"),
        from_backend(net, net.web1, "PA", source=source, ack=CLIENT_NEXT + 8, data=b"answer"),
        from_client(net, net.web1, "FA", source=source, seq=CLIENT_NEXT + 8, ack=BACKEND_NEXT + 6),
    ]


@packet_case()
def a_udp_flow(net):
    """The same for datagrams."""
    source = snat(net)
    return full(net, protocol=UDP), [
        asked(net, net.web1, source=source),
        answered(net, net.web1, source=source),
        asked(net, net.web1, source=source),
        table(Row(net.client, net.web1, State.UDP, source)),
    ]


@packet_case()
def udp_without_checksum(net):
    """Stays without."""
    source = snat(net)
    return full(net, protocol=UDP), [
        forward(udp(net.client, net.vip, sum=0), udp(source, net.web1, sum=0, ttl=HOP)),
        forward(udp(net.web1, source, sum=0), udp(net.vip, net.client, sum=0, ttl=HOP)),
    ]


@packet_case()
def the_port_is_in_the_range(net):
    """Any free port of the configured range will do, and it is the connection's for its lifetime."""
    ports = range(20_000, 20_100)

    def from_gateway(flags, **numbers):
        return Chosen(lambda port: tcp(net.wan.at(port), net.web1, flags, **numbers, ttl=HOP), ports)

    return full(net, ports=(ports[0], ports[-1])), [
        forward(tcp(net.client, net.vip, "S", seq=CLIENT_SEQ), from_gateway("S", seq=CLIENT_SEQ)),
        forward(
            Chosen(lambda port: tcp(net.web1, net.wan.at(port), "SA", seq=7, ack=CLIENT_NEXT)),
            tcp(net.vip, net.client, "SA", seq=7, ack=CLIENT_NEXT, ttl=HOP),
        ),
        forward(
            tcp(net.client, net.vip, "A", seq=CLIENT_NEXT, ack=8), from_gateway("A", seq=CLIENT_NEXT, ack=8)
        ),
        table(lambda port: Row(net.client, net.web1, State.ESTABLISHED, net.wan.at(port))),
    ]


@packet_case()
def ports_are_used_up(net):
    """No port is left towards this backend: refused by reason. When a connection is forgotten its port
    is free again."""
    source = snat(net)
    return full(net), [
        syn(net, net.web1, source=source),
        drop(tcp(net.second, net.vip, "S", seq=CLIENT_SEQ), DropReason.NO_FREE_PORT),
        drop(tcp(net.client.at(40_001), net.vip, "S", seq=CLIENT_SEQ), DropReason.NO_FREE_PORT),
        syn(net, net.web1, source=source),
        wait(65.0),
        syn(net, net.web1, net.second, source=source),
    ]


@packet_case()
def the_port_of_a_connection_that_is_over(net):
    """TIME_WAIT keeps no port from a new connection where there is no other
    (nf_nat_used_tuple_harder): a busy service would run out of them."""
    source = snat(net)
    return full(net), [
        handshake(net, net.web1, source=source),
        closing(net, net.web1, source=source),
        handshake(net, net.web1, net.second, source=source),
        table(Row(net.second, net.web1, State.ESTABLISHED, source)),
    ]


@packet_case()
def the_port_of_a_half_open_connection(net):
    """Nor do forged SYNs, once a handshake has had its time."""
    source = snat(net)
    later = syn(net, net.web1, net.second, source=source)
    return full(net), [
        syn(net, net.web1, source=source),
        wait(0.5),
        drop(tcp(net.second, net.vip, "S", seq=CLIENT_SEQ), DropReason.NO_FREE_PORT),
        wait(0.6),
        forward(later.packet, *later.out, evicts=1),
        table(Row(net.second, net.web1, State.SYN_SENT, source)),
    ]


@packet_case()
def the_port_of_a_service(net):
    """The gateway's address may be a VIP too: an answer to its service's port would be taken for a
    client's packet, so such a port is no connection's source."""
    source = net.wan.at(20_001)
    balanced = full(net, ports=(20_000, 20_001))
    other = service(net, net.web2, vip=net.wan.at(20_000))
    return replace(balanced, services=(*balanced.services, other)), [
        handshake(net, net.web1, source=source),
        drop(tcp(net.second, net.vip, "S", seq=CLIENT_SEQ), DropReason.NO_FREE_PORT),
        handshake(net, net.web2, net.second, vip=net.wan.at(20_000)),
        from_backend(net, net.web1, source=source),
    ]


@packet_case()
def no_port_but_a_service(net):
    """The backend asks from its own port for the one VIP whose port is all there is: the connection would
    be its own answer."""
    balanced = full(net)
    vip = net.wan.at(20_000)
    return replace(balanced, services=(service(net, net.web1, nat=FULL, vip=vip),)), [
        drop(tcp(net.web1, vip, "S", seq=CLIENT_SEQ), DropReason.NO_FREE_PORT),
        drop(tcp(net.client, vip, "S", seq=CLIENT_SEQ), DropReason.NO_FREE_PORT),
        table(),
    ]


@packet_case()
def one_port_for_many_backends(net):
    """A port is taken towards one backend only (RFC 4787 calls it address and port dependent): the
    number of connections is limited for each backend, not for all together."""
    return full(net, net.web1, net.web2), [
        handshake(net, net.web1, source=snat(net)),
        handshake(net, net.web2, net.second, source=snat(net)),
        from_backend(net, net.web1, source=snat(net)),
        from_backend(net, net.web2, client=net.second, source=snat(net)),
    ]


@packet_case()
def tcp_and_udp_ports_are_apart(net):
    """The same number serves both protocols."""
    both = full(net)
    services = (*both.services, service(net, net.web1, protocol=UDP, nat=FULL))
    return replace(both, services=services), [
        handshake(net, net.web1, source=snat(net)),
        asked(net, net.web1, source=snat(net)),
        answered(net, net.web1, source=snat(net)),
    ]


@packet_case()
def a_client_among_the_backends(net):
    """Hairpin: under destination NAT the backend would answer its neighbour directly, from an address
    that the client did not ask. Under full NAT the answer comes back through the gateway."""
    return full(net), [
        handshake(net, net.web1, net.inside, source=snat(net)),
        from_client(net, net.web1, "PA", net.inside, source=snat(net), data=b"question"),
        from_backend(
            net, net.web1, "PA", net.inside, source=snat(net), ack=CLIENT_NEXT + 8, data=b"answer"
        ),
    ]


@packet_case()
def a_backend_is_its_own_client(net):
    """A web server that asks its own site, and is given itself."""
    client = net.web1.at(45_000)
    return full(net), [
        handshake(net, net.web1, client, source=snat(net)),
        from_backend(net, net.web1, "PA", client, source=snat(net), data=b"to myself"),
    ]


@packet_case()
def a_backend_that_would_hear_from_itself(net):
    """Under destination NAT, from whatever port: no host takes a packet from its own address. The next try
    may be another one's turn."""
    served, other = net.web1, net.web1.at(45_000)

    return plan(service(net, net.web1), service(net, protocol=UDP)), [
        drop(tcp(served, net.vip, "S"), DropReason.NO_FREE_PORT),
        drop(tcp(other, net.vip, "S"), DropReason.NO_FREE_PORT),
        drop(udp(other, net.vip), DropReason.NO_FREE_PORT),
        table(),
        forward(udp(other, net.vip), udp(other, net.web2, ttl=HOP)),
        drop(udp(served, net.vip), DropReason.NO_FREE_PORT),
    ]


@packet_case()
def a_late_segment_does_not_take_the_port(net):
    """What a backend still says to a port of the gateway's that nobody has is the host's to refuse; the
    port can be a connection's again."""
    late = tcp(net.web1, snat(net), "SA", seq=7, ack=CLIENT_NEXT)
    refused = tcp(snat(net), net.web1, "R", seq=CLIENT_NEXT, window=0)
    return full(net), [leave(late, host=[refused]), syn(net, net.web1, source=snat(net))]


# -- a port where nobody asked for one -------------------------------------------------------------


@packet_case()
def two_services_on_one_backend(net):
    """One client, one source port, two services on the same server: the second connection would have
    the first one's tuple. It gets another port of the client's, as nf_nat does, and the replies find
    their way."""
    other = net.vip.at(81)
    ports = range(1_024, 65_536)
    plans = plan(service(net, net.web1), service(net, net.web1, vip=other))

    def moved(flags, **numbers):
        return Chosen(lambda port: tcp(net.client.at(port), net.web1, flags, **numbers, ttl=HOP), ports)

    return plans, [
        handshake(net, net.web1),
        forward(tcp(net.client, other, "S", seq=CLIENT_SEQ), moved("S", seq=CLIENT_SEQ)),
        forward(
            Chosen(lambda port: tcp(net.web1, net.client.at(port), "SA", seq=7, ack=CLIENT_NEXT)),
            tcp(other, net.client, "SA", seq=7, ack=CLIENT_NEXT, ttl=HOP),
        ),
        forward(tcp(net.client, other, "A", seq=CLIENT_NEXT, ack=8), moved("A", seq=CLIENT_NEXT, ack=8)),
        from_backend(net, net.web1),
        table(
            row(net, net.web1, State.ESTABLISHED),
            lambda port: Row(net.client, net.web1, State.ESTABLISHED, net.client.at(port)),
        ),
    ]


@packet_case()
def beside_a_direct_connection(net):
    """A client that is connected to the backend directly asks the service from the same port: its
    backend must not get two connections that look alike."""
    client = net.client.at(42_010)
    ports = range(1_024, 65_536)
    answer = {"seq": 7, "ack": 2}
    return plan(service(net, net.web1)), [
        leave(tcp(client, net.web1, "S", seq=1), host=[tcp(client, net.web1, "S", seq=1, ttl=HOP)]),
        leave(tcp(net.web1, client, "SA", **answer), host=[tcp(net.web1, client, "SA", **answer, ttl=HOP)]),
        forward(
            tcp(client, net.vip, "S", seq=CLIENT_SEQ),
            Chosen(lambda port: tcp(net.client.at(port), net.web1, "S", seq=CLIENT_SEQ, ttl=HOP), ports),
        ),
        leave(
            tcp(net.web1, client, "A", seq=8, ack=2),
            host=[tcp(net.web1, client, "A", seq=8, ack=2, ttl=HOP)],
        ),
        forward(
            Chosen(lambda port: tcp(net.web1, net.client.at(port), "SA", seq=7, ack=CLIENT_NEXT)),
            tcp(net.vip, client, "SA", seq=7, ack=CLIENT_NEXT, ttl=HOP),
        ),
    ]


@packet_case()
def two_services_on_one_host(net):
    """Different ports of the server: nothing clashes, and no port changes."""
    other = net.vip.at(81)
    return plan(service(net, net.web1), service(net, net.web1.at(8081), vip=other)), [
        handshake(net, net.web1),
        handshake(net, net.web1.at(8081), vip=other),
        from_backend(net, net.web1),
    ]


@packet_case()
def reused_port_after_a_half_open(net):
    """The SYN of a service goes unanswered, and the client asks the other service from the same port:
    the first tuple is still taken."""
    other = net.vip.at(81)
    ports = range(1_024, 65_536)
    return plan(service(net, net.web1), service(net, net.web1, vip=other)), [
        syn(net, net.web1, vip=other),
        forward(
            tcp(net.client, net.vip, "S", seq=CLIENT_SEQ),
            Chosen(lambda port: tcp(net.client.at(port), net.web1, "S", seq=CLIENT_SEQ, ttl=HOP), ports),
        ),
        syn_ack(net, net.web1, vip=other),
    ]
