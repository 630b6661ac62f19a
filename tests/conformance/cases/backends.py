"""Backends that go down and come back (DESIGN 5, 7)."""

from dataclasses import replace

from l4lb.model import DropReason, State
from tests.conformance.case import (
    Need,
    change,
    drop,
    packet_case,
    reply,
    sweep,
    table,
)
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    answered,
    asked,
    from_backend,
    from_client,
    handshake,
    row,
    syn,
    syn_ack,
    to_backend,
    to_client,
)
from tests.conformance.packets import rst, tcp, udp
from tests.conformance.plans import KEEP, UDP, full, plan, service, snat


def web1_down(net, **settings):
    return plan(service(net, down=[net.web1], **settings))


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
def down_resets_nobody_who_has_closed(net):
    """Both ends know that it is over, and it is only forgotten. The client with a connection is told."""
    return plan(service(net, net.web1)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        from_client(net, net.web1, seq=CLIENT_NEXT + 1, ack=BACKEND_NEXT + 1),
        table(row(net, net.web1, State.TIME_WAIT)),
        handshake(net, net.web1, net.second),
        change(plan(service(net, net.web1, down=[net.web1]))),
        sweep(to_client(net, net.second), to_backend(net, net.web1, net.second)),
        table(),
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
def a_syn_to_a_dead_backend_that_had_answered(net):
    """Its SYN/ACK was lost, or it has forgotten a connection that the backend had not: the SYN begins a new
    one with a backend that lives."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        change(web1_down(net)),
        syn(net, net.web2),
        table(row(net, net.web2, State.SYN_SENT)),
    ]


@packet_case()
def a_syn_to_a_dead_backend_whose_connections_are_kept(net):
    """What is established is kept, a handshake is not: its client says that it has heard nothing."""
    kept = web1_down(net, when_down=KEEP)
    return plan(service(net, when_down=KEEP)), [
        handshake(net, net.web1, net.second),
        syn(net, net.web2),
        syn_ack(net, net.web2),
        syn(net, net.web1, net.client.at(40_001)),
        syn_ack(net, net.web1, net.client.at(40_001)),
        change(kept),
        sweep(),
        syn(net, net.web2, net.client.at(40_001)),
        from_client(net, net.web1, client=net.second),
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
