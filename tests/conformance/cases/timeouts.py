"""What is forgotten, and when. The defaults of l4lb.model.Timeouts, in seconds."""

from l4lb.model import DropReason, State, Timeouts
from tests.conformance.case import change, packet_case, reply, table, wait
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
)
from tests.conformance.packets import rst, tcp
from tests.conformance.plans import UDP, plan, service

MINUTE = 60.0
HOUR = 3600.0


def forgotten(net, client=None):
    """A segment of a connection that nobody knows."""
    return reply(
        tcp(client or net.client, net.vip, "A", seq=CLIENT_NEXT, ack=BACKEND_NEXT),
        DropReason.NO_CONNECTION,
        rst(net.vip, client or net.client, seq=BACKEND_NEXT),
    )


@packet_case()
def idle_established_connection(net):
    """At least 2 h 4 min (RFC 5382 REQ-5): it is still there after 2 h 3 min of silence, any packet
    starts the time anew, and it is gone after 2 h 5 min."""
    return plan(service(net)), [
        handshake(net, net.web1),
        wait(2 * HOUR + 3 * MINUTE),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1),
        wait(2 * HOUR + 3 * MINUTE),
        from_backend(net, net.web1),
        wait(2 * HOUR + 3 * MINUTE),
        table(row(net, net.web1, State.ESTABLISHED)),
        wait(2 * MINUTE),
        table(),
        forgotten(net),
    ]


@packet_case()
def half_open_connection(net):
    """A minute for each step of the handshake (nf_conntrack_proto_tcp.c)."""
    return plan(service(net)), [
        syn(net, net.web1),
        wait(50.0),
        syn_ack(net, net.web1),
        syn(net, net.web2, net.second),
        wait(50.0),
        table(row(net, net.web1, State.SYN_RECEIVED), row(net, net.web2, State.SYN_SENT, net.second)),
        wait(12.0),
        table(),
    ]


@packet_case()
def half_closed_connection(net):
    """One end has closed, the other may go on sending, or think, for four minutes at a time (RFC 5382
    REQ-5: transitory states)."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        wait(230.0),
        from_backend(net, net.web1, "PA", ack=CLIENT_NEXT + 1, data=b"slow"),
        wait(230.0),
        table(row(net, net.web1, State.CLIENT_FIN)),
        wait(12.0),
        table(),
    ]


@packet_case()
def time_wait(net):
    """A minute, as Linux has it (TCP_TIMEWAIT_LEN)."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        wait(59.0),
        table(row(net, net.web1, State.LAST_ACK)),
        from_client(net, net.web1, "A", seq=CLIENT_NEXT + 1, ack=BACKEND_NEXT + 1),
        wait(59.0),
        table(row(net, net.web1, State.TIME_WAIT)),
        wait(2.0),
        table(),
    ]


@packet_case()
def closed_by_reset(net):
    """Ten seconds, for what was under way."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "R", ack=0),
        wait(9.0),
        table(row(net, net.web1, State.CLOSED)),
        wait(2.0),
        table(),
    ]


@packet_case()
def udp_flow(net):
    """A question and its answer 30 s; five minutes once the client goes on, with every packet in any
    direction (RFC 4787 REQ-5, REQ-6)."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        asked(net, net.web2, net.second),
        wait(29.0),
        answered(net, net.web1),
        wait(2.0),
        table(row(net, net.web1, State.UDP_ANSWERED)),
        wait(27.0),
        asked(net, net.web1),
        wait(290.0),
        asked(net, net.web1),
        wait(290.0),
        answered(net, net.web1),
        wait(290.0),
        table(row(net, net.web1, State.UDP)),
        wait(12.0),
        table(),
    ]


@packet_case()
def a_retransmitted_syn_starts_the_time_anew(net):
    """A client behind a bad line sends its SYN again after 1, 3, 7, 15, 31 and 63 s."""
    return plan(service(net)), [
        syn(net, net.web1),
        wait(31.0),
        syn(net, net.web1),
        wait(32.0),
        syn(net, net.web1),
        wait(55.0),
        table(row(net, net.web1, State.SYN_SENT)),
    ]


@packet_case()
def timeouts_of_the_plan(net):
    """A plan can say other times. They hold from a connection's next change or check on."""
    short = Timeouts(syn_sent=5.0, established=20.0)
    return plan(service(net), timeouts=short), [
        handshake(net, net.web1),
        syn(net, net.web2, net.second),
        wait(7.0),
        table(row(net, net.web1, State.ESTABLISHED)),
        wait(15.0),
        table(),
        change(plan(service(net))),
        syn(net, net.web1),
        wait(50.0),
        table(row(net, net.web1, State.SYN_SENT)),
    ]
