"""Services none of whose backends can take a connection, and packets without a route (DESIGN 5)."""

from dataclasses import replace

from l4lb.control.config.config import GatewayConfig
from l4lb.control.reconcile import SelectionCache, plan_for
from l4lb.model import Backend, DropReason, Endpoint, Service, WhenAllDown
from tests.conformance.case import (
    change,
    drop,
    forward,
    packet_case,
    reply,
    sweep,
    table,
)
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    HOP,
    from_client,
    handshake,
    syn,
)
from tests.conformance.packets import icmp, plain, quote, rst, tcp, udp
from tests.conformance.plans import NOBODY, UDP, plan, service
from tests.conformance.world import V6, Side


def nobody_answers(net, packet):
    """ICMP port unreachable from the VIP, quoting the datagram."""
    return reply(
        packet,
        DropReason.NO_BACKEND,
        icmp(net.vip, net.client, net.port_unreachable, quote(packet), **plain(net.vip)),
    )


@packet_case()
def all_down_refuses(net):
    """``when_all_down = refuse``: as a host without a listener does it, at once. RST with the SYN
    acknowledged, data and all (RFC 9293 3.10.7.1)."""
    everybody = plan(service(net, down=[net.web1, net.web2]))
    return everybody, [
        reply(
            tcp(net.client, net.vip, "S", seq=CLIENT_SEQ),
            DropReason.NO_BACKEND,
            rst(net.vip, net.client, ack=CLIENT_NEXT),
        ),
        reply(
            tcp(net.client, net.vip, "S", seq=2**32 - 3, data=b"12345"),
            DropReason.NO_BACKEND,
            rst(net.vip, net.client, ack=3),
        ),
        table(),
    ]


@packet_case()
def all_down_refuses_udp(net):
    """ICMP port unreachable (RFC 1122 4.1.3.1)."""
    everybody = plan(service(net, protocol=UDP, down=[net.web1, net.web2]))
    return everybody, [nobody_answers(net, udp(net.client, net.vip, b"anybody?")), table()]


@packet_case()
def no_backends_at_all(net):
    """A service that is configured before its backends are."""
    return plan(replace(service(net), backends=(), selection=NOBODY)), [
        reply(
            tcp(net.client, net.vip, "S", seq=CLIENT_SEQ),
            DropReason.NO_BACKEND,
            rst(net.vip, net.client, ack=CLIENT_NEXT),
        )
    ]


def _endpoint(host):
    return Endpoint.parse(str(host))


def use_all(net):
    """The plan that the control plane makes when every check fails and the policy is to go on."""
    backends = tuple(Backend(_endpoint(host)) for host in (net.web1, net.web2))
    wanted = Service("tcp-80", _endpoint(net.vip), when_all_down=WhenAllDown.USE_ALL, backends=backends)
    down = {("tcp-80", backend.address) for backend in backends}
    return plan_for(
        [wanted],
        GatewayConfig(),
        unusable=down,
        down=down,
        sources={},
        cache=SelectionCache(),
    )


@packet_case()
def all_down_uses_all(net):
    """``when_all_down = use_all``: the checks may be what is wrong. Connections are neither reset nor
    refused, and new ones take turns as if nothing had happened."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(use_all(net)),
        sweep(),
        from_client(net, net.web1),
        handshake(net, net.web2, net.second),
        handshake(net, net.web1, net.client.at(40_001)),
    ]


@packet_case()
def the_last_backend_drained(net):
    """Nobody takes new connections: refused, while old ones go on."""
    return plan(service(net, net.web1)), [
        handshake(net, net.web1),
        change(plan(service(net, net.web1, selection=NOBODY))),
        reply(
            tcp(net.second, net.vip, "S", seq=CLIENT_SEQ),
            DropReason.NO_BACKEND,
            rst(net.vip, net.second, ack=CLIENT_NEXT),
        ),
        from_client(net, net.web1),
    ]


@packet_case()
def no_route_to_the_backend(net):
    """Dropped by reason, and no connection is made of it: its SYN is scheduled anew next time."""
    return plan(service(net, net.lost, net.web1)), [
        drop(tcp(net.client, net.vip, "S", seq=CLIENT_SEQ), DropReason.NO_ROUTE),
        table(),
        syn(net, net.web1),
    ]


@packet_case()
def no_route_to_the_client(net):
    """A client that cannot be answered: its packets go on, the replies cannot."""
    client = net.lost.at(40_000)
    return plan(service(net)), [
        forward(
            tcp(client, net.vip, "S", seq=CLIENT_SEQ), tcp(client, net.web1, "S", seq=CLIENT_SEQ, ttl=HOP)
        ),
        drop(tcp(net.web1, client, "SA", seq=BACKEND_NEXT - 1, ack=CLIENT_NEXT), DropReason.NO_ROUTE),
    ]


@packet_case()
def client_behind_a_router(net):
    """Replies go to the router that the client is behind."""
    return plan(service(net)), [
        handshake(net, net.web1, net.far),
        from_client(net, net.web1, client=net.far),
    ]


@packet_case(V6)
def from_a_link_local_address(net):
    """It means something on its own link only, so no router sends on what comes from it (RFC 4291
    2.5.6)."""
    neighbour = net.client._replace(ip="fe80::2")
    return plan(service(net), service(net, protocol=UDP)), [
        drop(tcp(neighbour, net.vip, "S", seq=CLIENT_SEQ), DropReason.NO_ROUTE, side=Side.CLIENTS),
        drop(tcp(neighbour, net.vip, "R", seq=CLIENT_SEQ), DropReason.NO_ROUTE, side=Side.CLIENTS),
        drop(udp(neighbour, net.vip), DropReason.NO_ROUTE, side=Side.CLIENTS),
        table(),
    ]
