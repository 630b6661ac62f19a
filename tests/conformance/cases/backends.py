"""Backends that go down, are drained, removed or come back (DESIGN 5, 7)."""

from dataclasses import replace

from l4lb.control.config import GatewayConfig
from l4lb.control.reconcile import SelectionCache, plan_for
from l4lb.model import Backend, DropReason, Endpoint, Service, State, WhenAllDown
from tests.conformance.case import (
    Need,
    change,
    drop,
    forward,
    leave,
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
    answered,
    asked,
    from_backend,
    from_client,
    handshake,
    row,
    syn,
    syn_ack,
)
from tests.conformance.packets import icmp, plain, quote, rst, tcp, udp
from tests.conformance.plans import KEEP, NOBODY, UDP, full, plan, service, snat, turns


def to_client(net, client=None, seq=BACKEND_NEXT):
    return rst(net.vip, client or net.client, seq=seq)


def to_backend(net, backend, client=None, seq=CLIENT_NEXT):
    return rst(client or net.client, backend, seq=seq)


def web1_down(net, **settings):
    return plan(service(net, down=[net.web1], **settings))


# -- down ------------------------------------------------------------------------------------------


@packet_case()
def down_resets_its_connections(net):
    """Who is connected to a dead backend hears of it, and so does the backend, should it still live:
    RST to both ends with the numbers they expect (RFC 5961 3.2). Connections with other backends are
    not touched."""
    return plan(service(net)), [
        handshake(net, net.web1),
        handshake(net, net.web2, net.second),
        change(web1_down(net)),
        sweep(to_client(net), to_backend(net, net.web1)),
        table(row(net, net.web2, State.ESTABLISHED, net.second)),
        from_client(net, net.web2, client=net.second),
        syn(net, net.web2),
    ]


@packet_case()
def down_resets_with_the_latest_numbers(net):
    """The numbers are those of the last acknowledgements, also of packets on the fast path."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        from_backend(net, net.web1, "PA", ack=CLIENT_NEXT + 8, data=b"answer"),
        from_client(net, net.web1, seq=CLIENT_NEXT + 8, ack=BACKEND_NEXT + 6),
        change(web1_down(net)),
        sweep(to_client(net, seq=BACKEND_NEXT + 6), to_backend(net, net.web1, seq=CLIENT_NEXT + 8)),
    ]


@packet_case()
def down_resets_full_nat(net):
    """The backend's RST comes from what it took for its client."""
    return full(net), [
        handshake(net, net.web1, source=snat(net)),
        change(
            replace(
                full(net),
                services=(service(net, net.web1, down=[net.web1], nat=full(net).services[0].nat),),
            )
        ),
        sweep(to_client(net), rst(snat(net), net.web1, seq=CLIENT_NEXT)),
        table(),
    ]


@packet_case(needs=[Need.HELD_SWEEP])
def down_and_the_client_speaks(net):
    """RST, not silence: to both ends, with the numbers that this packet shows."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(web1_down(net)),
        reply(
            tcp(net.client, net.vip, "PA", seq=CLIENT_NEXT, ack=BACKEND_NEXT + 9, data=b"data"),
            DropReason.BACKEND_DOWN,
            to_client(net, seq=BACKEND_NEXT + 9),
            to_backend(net, net.web1),
        ),
        table(),
        sweep(),
    ]


@packet_case(needs=[Need.HELD_SWEEP])
def down_and_the_backend_speaks(net):
    """It was not as dead as its check: the same from the other end."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(web1_down(net)),
        reply(
            tcp(net.web1, net.client, "PA", seq=BACKEND_NEXT, ack=CLIENT_NEXT + 9, data=b"data"),
            DropReason.BACKEND_DOWN,
            to_client(net),
            to_backend(net, net.web1, seq=CLIENT_NEXT + 9),
        ),
        table(),
    ]


@packet_case(needs=[Need.HELD_SWEEP])
def down_and_the_client_resets(net):
    """An RST is not answered; the connection is over."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(web1_down(net)),
        drop(tcp(net.client, net.vip, "R", seq=CLIENT_NEXT), DropReason.BACKEND_DOWN),
        table(),
    ]


@packet_case()
def syn_to_a_dead_backend_is_rescheduled(net):
    """The backend died before it answered. The sweep leaves the client alone: its SYN will come again,
    and goes to a backend that lives (DESIGN 7)."""
    return plan(service(net)), [
        syn(net, net.web1),
        change(web1_down(net)),
        sweep(),
        table(row(net, net.web1, State.SYN_SENT)),
        syn(net, net.web2),
        table(row(net, net.web2, State.SYN_SENT)),
        syn_ack(net, net.web2),
        from_client(net, net.web2),
    ]


@packet_case()
def syn_is_rescheduled_though_connections_are_kept(net):
    """``when_backend_down = keep`` is about connections; a SYN without an answer is none yet."""
    return plan(service(net, when_down=KEEP)), [
        syn(net, net.web1),
        change(web1_down(net, when_down=KEEP)),
        syn(net, net.web2),
        table(row(net, net.web2, State.SYN_SENT)),
    ]


@packet_case()
def late_syn_ack_of_a_dead_backend(net):
    """It answers after it was given up: its half of the handshake is reset, and the client, whose
    SYN will come again, hears nothing."""
    return plan(service(net)), [
        syn(net, net.web1),
        change(web1_down(net)),
        reply(
            tcp(net.web1, net.client, "SA", seq=BACKEND_NEXT - 1, ack=CLIENT_NEXT),
            DropReason.BACKEND_DOWN,
            to_backend(net, net.web1),
        ),
        table(),
        syn(net, net.web2),
    ]


@packet_case()
def down_in_the_middle_of_a_handshake(net):
    """The SYN/ACK was seen and the client's ACK was not. What the client expects is known from the
    SYN/ACK: it is told, and does not wait for data that never comes."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        change(web1_down(net)),
        sweep(to_client(net), to_backend(net, net.web1)),
        table(),
        syn(net, net.web2),
    ]


@packet_case()
def down_but_kept(net):
    """``when_backend_down = keep``: the check may be what is wrong. Connections go on in both
    directions, new ones go elsewhere."""
    return plan(service(net, when_down=KEEP)), [
        handshake(net, net.web1),
        change(web1_down(net, when_down=KEEP)),
        sweep(),
        from_client(net, net.web1, "PA", data=b"question"),
        from_backend(net, net.web1, "PA", ack=CLIENT_NEXT + 8, data=b"answer"),
        syn(net, net.web2, net.second),
        syn(net, net.web2, net.client.at(40_001)),
    ]


@packet_case()
def up_again(net):
    """A backend that comes back gets its turns again; what was reset stays so."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(web1_down(net)),
        sweep(to_client(net), to_backend(net, net.web1)),
        change(plan(service(net))),
        syn(net, net.web2, net.second),
        syn(net, net.web1),
    ]


@packet_case(needs=[Need.HELD_SWEEP])
def up_again_before_the_sweep(net):
    """A flap shorter than the sweep costs nobody a connection."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(web1_down(net)),
        change(plan(service(net))),
        sweep(),
        from_client(net, net.web1),
    ]


@packet_case()
def udp_flow_of_a_dead_backend(net):
    """A flow has no end to be told: the next datagram is scheduled anew."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        answered(net, net.web1),
        change(web1_down(net, protocol=UDP)),
        sweep(),
        asked(net, net.web2),
        answered(net, net.web2),
    ]


@packet_case(needs=[Need.HELD_SWEEP])
def udp_datagrams_around_a_dead_backend(net):
    """Before the sweep: the client's datagram moves the flow at once; one of the dead backend is
    dropped, and ends it."""
    dead = web1_down(net, protocol=UDP)
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        asked(net, net.web2, net.second),
        asked(net, net.web1, net.client.at(40_001)),
        change(dead),
        drop(udp(net.web1, net.client), DropReason.BACKEND_DOWN),
        asked(net, net.web2, net.client.at(40_001)),
        table(
            row(net, net.web2, State.UDP_NEW, net.second),
            row(net, net.web2, State.UDP_NEW, net.client.at(40_001)),
        ),
    ]


# -- all down --------------------------------------------------------------------------------------


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
    return plan_for(
        [wanted],
        GatewayConfig(),
        down={("tcp-80", backend.address) for backend in backends},
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


# -- drained, removed, changed ---------------------------------------------------------------------


@packet_case()
def drained(net):
    """Weight 0: no new connections, old ones finish in their own time, also half-open ones."""
    draining = plan(service(net, selection=turns(1)))
    return plan(service(net)), [
        handshake(net, net.web1),
        syn(net, net.web2, net.second),
        syn(net, net.web1, net.client.at(40_001)),
        change(draining),
        sweep(),
        syn(net, net.web2, net.client.at(40_002)),
        syn(net, net.web2, net.client.at(40_003)),
        from_client(net, net.web1, "PA", data=b"still here"),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 10),
        syn(net, net.web1, net.client.at(40_001)),
        syn_ack(net, net.web1, net.client.at(40_001)),
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
def removed(net):
    """Taken out of the config: its connections are reset, whatever ``when_backend_down`` says, and
    those of the others stay."""
    return plan(service(net, when_down=KEEP)), [
        handshake(net, net.web1),
        handshake(net, net.web2, net.second),
        change(plan(service(net, net.web2, when_down=KEEP))),
        sweep(to_client(net), to_backend(net, net.web1)),
        from_client(net, net.web2, client=net.second),
        syn(net, net.web2),
    ]


@packet_case(needs=[Need.HELD_SWEEP])
def removed_and_the_client_speaks(net):
    """Before the sweep comes by."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(plan(service(net, net.web2))),
        reply(
            tcp(net.client, net.vip, "A", seq=CLIENT_NEXT, ack=BACKEND_NEXT),
            DropReason.BACKEND_DOWN,
            to_client(net),
            to_backend(net, net.web1),
        ),
        syn(net, net.web2),
    ]


@packet_case()
def removed_and_added_again(net):
    """In two changes one after the other: it is a new backend, and the old connections are over."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(plan(service(net, net.web2))),
        change(plan(service(net))),
        sweep(to_client(net), to_backend(net, net.web1)),
        syn(net, net.web2),
        syn(net, net.web1, net.second),
    ]


@packet_case()
def service_removed(net):
    """Its connections are reset, and from then on its port is the host's, who has no listener."""
    other = plan(service(net, vip=net.vip.at(81)))
    refused = tcp(net.vip, net.client, "RA", ack=CLIENT_NEXT, window=0)
    return plan(service(net), service(net, vip=net.vip.at(81))), [
        handshake(net, net.web1),
        change(other),
        sweep(to_client(net), to_backend(net, net.web1)),
        leave(tcp(net.client, net.vip, "S", seq=CLIENT_SEQ), host=[refused]),
    ]


@packet_case()
def nat_changed(net):
    """From destination to full NAT: old connections cannot go on, new ones are translated anew."""
    return plan(service(net, net.web1)), [
        handshake(net, net.web1),
        change(full(net)),
        sweep(to_client(net), to_backend(net, net.web1)),
        handshake(net, net.web1, source=snat(net)),
    ]


@packet_case()
def the_same_plan_again(net):
    """Applying a plan twice changes nothing; nor does another order of backends."""
    reordered = plan(service(net, net.web2, net.web1, selection=turns(0, 1)))
    return plan(service(net)), [
        handshake(net, net.web1),
        change(plan(service(net))),
        sweep(),
        from_client(net, net.web1),
        change(reordered),
        sweep(),
        from_client(net, net.web1),
        from_backend(net, net.web1),
        syn(net, net.web1, net.second),  # the second turn
    ]


@packet_case()
def backend_added(net):
    """It takes its turns; nobody is moved."""
    return plan(service(net, net.web1)), [
        handshake(net, net.web1),
        change(plan(service(net))),
        sweep(),
        syn(net, net.web2, net.second),
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
def client_behind_a_router(net):
    """Replies go to the router that the client is behind."""
    return plan(service(net)), [
        handshake(net, net.web1, net.far),
        from_client(net, net.web1, client=net.far),
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
