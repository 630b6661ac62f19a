"""The life of a TCP connection as the gateway sees it (RFC 9293 3.3.2, 3.10; l4lb/director/states.py)."""

from l4lb.model import State
from tests.conformance.case import forward, measured, packet_case, table, wait
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    BACKEND_SEQ,
    CLIENT_NEXT,
    HOP,
    from_backend,
    from_client,
    handshake,
    row,
    syn,
    syn_ack,
)
from tests.conformance.packets import tcp
from tests.conformance.plans import plan, service

FIN_ACKED = {"seq": CLIENT_NEXT + 1, "ack": BACKEND_NEXT + 1}


def closed_by_client(net, backend):
    """FIN, ACK, FIN, ACK, beginning with the client."""
    return [
        from_client(net, backend, "FA"),
        from_backend(net, backend, "A", ack=CLIENT_NEXT + 1),
        from_backend(net, backend, "FA", ack=CLIENT_NEXT + 1),
        from_client(net, backend, "A", **FIN_ACKED),
    ]


@packet_case()
def each_state_of_the_handshake(net):
    """SYN_SENT, SYN_RECEIVED, ESTABLISHED."""
    return plan(service(net)), [
        syn(net, net.web1),
        table(row(net, net.web1, State.SYN_SENT)),
        syn_ack(net, net.web1),
        table(row(net, net.web1, State.SYN_RECEIVED)),
        from_client(net, net.web1),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def syn_retransmitted(net):
    """A SYN that was lost on the way is sent again, and goes to the same backend: it is no new
    connection."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn(net, net.web1),
        syn_ack(net, net.web1),
        syn(net, net.web1),
        table(row(net, net.web1, State.SYN_RECEIVED)),
        syn(net, net.web2, net.second),
    ]


@packet_case()
def syn_ack_retransmitted(net):
    """The client's ACK was lost behind the gateway."""
    return plan(service(net)), [
        handshake(net, net.web1),
        syn_ack(net, net.web1),
        from_client(net, net.web1),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def syn_in_an_established_connection(net):
    """The client has forgotten the connection, or somebody forges: the backend answers with a
    challenge ACK (RFC 5961 4) and the connection lives on."""
    return plan(service(net)), [
        handshake(net, net.web1),
        syn(net, net.web1),
        from_backend(net, net.web1),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def closed_by_the_client(net):
    """FIN, ACK, FIN, ACK: each state has its own timeout."""
    steps = closed_by_client(net, net.web1)
    return plan(service(net)), [
        handshake(net, net.web1),
        steps[0],
        table(row(net, net.web1, State.CLIENT_FIN)),
        steps[1],
        from_backend(net, net.web1, "PA", ack=CLIENT_NEXT + 1, data=b"the rest"),
        table(row(net, net.web1, State.CLIENT_FIN)),
        from_backend(net, net.web1, "FA", seq=BACKEND_NEXT + 8, ack=CLIENT_NEXT + 1),
        table(row(net, net.web1, State.LAST_ACK)),
        from_client(net, net.web1, "A", seq=CLIENT_NEXT + 1, ack=BACKEND_NEXT + 9),
        table(row(net, net.web1, State.TIME_WAIT)),
    ]


@packet_case()
def closed_by_the_backend(net):
    """The same from the other end, as HTTP/1.0 servers do it."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1, "FA"),
        table(row(net, net.web1, State.BACKEND_FIN)),
        from_client(net, net.web1, "A", ack=BACKEND_NEXT + 1),
        from_client(net, net.web1, "PA", ack=BACKEND_NEXT + 1, data=b"the rest"),
        table(row(net, net.web1, State.BACKEND_FIN)),
        from_client(net, net.web1, "FA", seq=CLIENT_NEXT + 8, ack=BACKEND_NEXT + 1),
        table(row(net, net.web1, State.LAST_ACK)),
        from_backend(net, net.web1, "A", seq=BACKEND_NEXT + 1, ack=CLIENT_NEXT + 9),
        table(row(net, net.web1, State.TIME_WAIT)),
    ]


@packet_case()
def simultaneous_close(net):
    """Both FINs cross on the way (RFC 9293 3.6): both last ACKs go through."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        from_backend(net, net.web1, "FA"),
        table(row(net, net.web1, State.LAST_ACK)),
        from_client(net, net.web1, "A", **FIN_ACKED),
        from_backend(net, net.web1, "A", seq=BACKEND_NEXT + 1, ack=CLIENT_NEXT + 1),
        table(row(net, net.web1, State.TIME_WAIT)),
    ]


@packet_case()
def fin_retransmitted(net):
    """A FIN sent twice is one FIN."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        from_client(net, net.web1, "FA"),
        table(row(net, net.web1, State.CLIENT_FIN)),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        table(row(net, net.web1, State.LAST_ACK)),
    ]


@packet_case()
def last_segments_in_time_wait(net):
    """What comes late, a lost last ACK sent again for instance, still goes through."""
    return plan(service(net)), [
        handshake(net, net.web1),
        closed_by_client(net, net.web1),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        from_client(net, net.web1, "A", **FIN_ACKED),
        table(row(net, net.web1, State.TIME_WAIT)),
    ]


@packet_case()
def fin_in_syn_received(net):
    """A client that closes at once: its FIN acknowledges the SYN/ACK as well, the bare ACK was
    lost."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        from_client(net, net.web1, "FA"),
        table(row(net, net.web1, State.CLIENT_FIN)),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        from_client(net, net.web1, "A", **FIN_ACKED),
        table(row(net, net.web1, State.TIME_WAIT)),
    ]


@packet_case()
def fin_of_the_backend_in_syn_received(net):
    """A server with TCP Fast Open can answer and close before the client's ACK is there."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        from_backend(net, net.web1, "FPA", data=b"answer"),
        table(row(net, net.web1, State.BACKEND_FIN)),
        from_client(net, net.web1, "FA", ack=BACKEND_NEXT + 7),
        from_backend(net, net.web1, "A", seq=BACKEND_NEXT + 7, ack=CLIENT_NEXT + 1),
        table(row(net, net.web1, State.TIME_WAIT)),
    ]


@packet_case()
def fin_with_a_strange_acknowledgement(net):
    """What a FIN acknowledges is the endpoints' business once the connection is established."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA", ack=BACKEND_NEXT + 0x2000_0000),
        table(row(net, net.web1, State.CLIENT_FIN)),
    ]


@packet_case()
def a_forged_ack_does_not_establish(net):
    """Who forges the client's address never saw the SYN/ACK: an ACK that does not acknowledge it
    goes through, the backend resets it, and the connection stays among the half-open, or a flood of
    such pairs would fill the table (DESIGN 3; RFC 9293 3.10.7.4, SYN-RECEIVED)."""
    forged = [BACKEND_SEQ, BACKEND_NEXT - 0x1000_0000, BACKEND_NEXT + 0x1000_0000, 0]
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        [from_client(net, net.web1, flags, ack=ack) for ack in forged for flags in ("A", "PA", "FA")],
        table(row(net, net.web1, State.SYN_RECEIVED)),
        from_client(net, net.web1),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def data_before_the_last_ack(net):
    """With TCP Fast Open the backend sends data right behind its SYN/ACK (RFC 7413 4.2.2), and the
    first ACK acknowledges some of it."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        from_backend(net, net.web1, "PA", data=b"early answer"),
        table(row(net, net.web1, State.SYN_RECEIVED)),
        from_client(net, net.web1, ack=BACKEND_NEXT + 12),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def syn_ack_with_another_number(net):
    """A backend that answers with SYN cookies, or has dropped its first answer, may begin with another
    number when the SYN comes again: the last one counts."""
    other = {"seq": 77_000_000, "ack": CLIENT_NEXT}
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        syn(net, net.web1),
        forward(tcp(net.web1, net.client, "SA", **other), tcp(net.vip, net.client, "SA", **other, ttl=HOP)),
        from_client(net, net.web1, ack=77_000_001),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def port_reuse_in_time_wait(net):
    """A SYN in TIME_WAIT begins a new connection at once (RFC 9293 3.6.1, RFC 6191), to the backend
    whose turn it is: the SYN must not be lost, nor go where the old connection was."""
    return plan(service(net)), [
        handshake(net, net.web1),
        closed_by_client(net, net.web1),
        table(row(net, net.web1, State.TIME_WAIT)),
        handshake(net, net.web2),
        table(row(net, net.web2, State.ESTABLISHED)),
    ]


@packet_case()
def port_reuse_before_the_last_ack(net):
    """The last ACK was lost on the way, and the client is done with the connection."""
    return plan(service(net)), [
        handshake(net, net.web1),
        closed_by_client(net, net.web1)[:-1],
        table(row(net, net.web1, State.LAST_ACK)),
        syn(net, net.web2),
        table(row(net, net.web2, State.SYN_SENT)),
    ]


@packet_case()
def a_syn_ack_that_crosses_a_reset(net):
    """The client gives up before it is answered: the answer still comes from the VIP, for the client to
    refuse, and its port is as good as before."""
    return plan(service(net)), [
        syn(net, net.web1),
        from_client(net, net.web1, "R", ack=0),
        syn_ack(net, net.web1),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT, ack=0),
        syn(net, net.web2),
        syn_ack(net, net.web2),
    ]


@packet_case()
def port_reuse_after_a_reset(net):
    """A client that was reset may use the port again at once."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1, "R", ack=0),
        table(row(net, net.web1, State.CLOSED)),
        syn(net, net.web2),
        table(row(net, net.web2, State.SYN_SENT)),
    ]


# -- a port that is used again while the connection is thought to be alive -------------------------

ANEW = 500_000_000
BACKEND_ANEW = 700_000_000
"""Initial sequence numbers of the second connection."""


def syn_anew(net):
    """The client has forgotten the connection, and its SYN goes where that one is."""
    return forward(
        tcp(net.client, net.vip, "S", seq=ANEW),
        tcp(net.client, net.web1, "S", seq=ANEW, ttl=HOP),
    )


def syn_ack_anew(net, ack=ANEW + 1, **fields):
    """So has the backend."""
    numbers = {"seq": BACKEND_ANEW, "ack": ack, **fields}
    return forward(
        tcp(net.web1, net.client, "SA", **numbers), tcp(net.vip, net.client, "SA", **numbers, ttl=HOP)
    )


AGAIN = {"seq": ANEW + 1, "ack": BACKEND_ANEW + 1}


@packet_case()
def port_reuse_after_both_ends_lost_the_connection(net):
    """A SYN/ACK that acknowledges the SYN shows that the backend has a new connection too: state, numbers
    and what was waiting are those of that one (nf_conntrack_proto_tcp.c, of a SYN/ACK that acknowledges a
    SYN which was ignored)."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"question"),
        measured(net.web1, handshakes=1, outstanding=1, confirmed=1),
        syn_anew(net),
        syn_ack_anew(net),
        measured(net.web1, handshakes=1, confirmed=2),
        from_client(net, net.web1, **AGAIN),
        from_backend(net, net.web1, "PA", seq=BACKEND_ANEW + 1, ack=ANEW + 1, data=b"unasked"),
        measured(net.web1, handshakes=1, confirmed=2),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_backend(net, net.web1, "R", seq=BACKEND_NEXT),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, "A", seq=ANEW + 1, ack=BACKEND_ANEW + 8),
        from_backend(net, net.web1, "R", seq=BACKEND_ANEW + 8),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def port_reuse_after_the_backend_lost_one_that_was_closing(net):
    """It was half closed, and its time was short; the new one has that of a live one."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        table(row(net, net.web1, State.CLIENT_FIN)),
        syn_anew(net),
        syn_ack_anew(net),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, **AGAIN),
        from_client(net, net.web1, "FA", **AGAIN),
        table(row(net, net.web1, State.CLIENT_FIN)),
    ]


@packet_case()
def its_windows_are_those_of_the_new_one(net):
    """Of the backend as its SYN/ACK says; of the client, whose SYN was not taken for one, the largest."""
    scaled = {"seq": BACKEND_ANEW, "ack": ANEW + 1, "tcp_options": [("WScale", 3)]}
    last = ANEW + 1 + (0xFFFF << 3)
    return plan(service(net)), [
        handshake(net, net.web1),
        syn_anew(net),
        forward(
            tcp(net.web1, net.client, "SA", **scaled), tcp(net.vip, net.client, "SA", **scaled, ttl=HOP)
        ),
        from_client(net, net.web1, **AGAIN),
        from_client(net, net.web1, "FA", seq=last + 1, ack=BACKEND_ANEW + 1),
        from_backend(net, net.web1, "FA", seq=BACKEND_ANEW + 2 + (0xFFFF << 14), ack=ANEW + 1),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, "FA", seq=last, ack=BACKEND_ANEW + 1),
        table(row(net, net.web1, State.CLIENT_FIN)),
        from_backend(net, net.web1, "FA", seq=BACKEND_ANEW + 1 + (0xFFFF << 14), ack=ANEW + 1),
        table(row(net, net.web1, State.LAST_ACK)),
    ]


@packet_case()
def its_time_is_that_of_a_live_one(net):
    """See above."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1, "FA"),
        syn_anew(net),
        syn_ack_anew(net),
        wait(3_600.0),
        from_client(net, net.web1, **AGAIN),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def a_late_syn_ack(net):
    """Without a SYN before it, or with another number than that SYN's, it is an old one that was under way
    for long: nothing begins."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        syn_ack(net, net.web1),
        syn_anew(net),
        syn_ack(net, net.web1),
        syn_ack_anew(net, ack=ANEW),
        syn_ack_anew(net, ack=0),
        table(row(net, net.web1, State.CLIENT_FIN)),
        measured(net.web1, handshakes=1, confirmed=1),
        syn_ack_anew(net),
        syn_ack_anew(net),
        table(row(net, net.web1, State.ESTABLISHED)),
        measured(net.web1, handshakes=1, confirmed=2),
    ]


@packet_case()
def a_late_syn_and_its_syn_ack(net):
    """The first SYN once more, and the first answer: both ends are where they were."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        syn(net, net.web1),
        syn_ack(net, net.web1),
        table(row(net, net.web1, State.CLIENT_FIN)),
    ]


@packet_case()
def a_syn_that_was_refused_in_between(net):
    """The client goes on in the old connection, so the SYN was another's: its answer begins nothing."""
    return plan(service(net)), [
        handshake(net, net.web1),
        syn_anew(net),
        from_backend(net, net.web1),
        from_client(net, net.web1),
        from_client(net, net.web1, "FA"),
        syn_ack_anew(net),
        table(row(net, net.web1, State.CLIENT_FIN)),
    ]


@packet_case()
def a_syn_ack_that_acknowledges_nothing(net):
    """Of a backend that has spoken before, to a client that has sent one SYN: nothing begins anew."""
    numbers = {"seq": BACKEND_SEQ, "ack": 0}
    return plan(service(net)), [
        syn(net, net.web1),
        from_backend(net, net.web1, "PA", ack=0, data=b"early"),
        forward(
            tcp(net.web1, net.client, "SA", **numbers), tcp(net.vip, net.client, "SA", **numbers, ttl=HOP)
        ),
        table(row(net, net.web1, State.ESTABLISHED)),
        measured(net.web1, confirmed=1),
    ]
