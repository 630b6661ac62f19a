"""Mid-stream packets of connections that nobody knows, after a crash or a failover (DESIGN 7).

Where the scheduler is a consistent hash the backend is found again; where it is not, the sender is
told at once.
"""

from l4lb.model import DropReason, Limits, State
from tests.conformance.case import drop, leave, packet_case, reply, table
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    HOP,
    from_backend,
    from_client,
    row,
    syn,
)
from tests.conformance.packets import rst, tcp, udp
from tests.conformance.plans import FULL, NOBODY, UDP, by_flow, by_source, plan, service

NUMBERS = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
BACK = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT}


def consistent(net, select=by_flow, **settings):
    """Both backends are there; the hash always says web1."""
    return plan(service(net, selection=select(0), **settings))


def refused(net, *, flags="A", data=b""):
    return reply(
        tcp(net.client, net.vip, flags, **NUMBERS, data=data),
        DropReason.NO_CONNECTION,
        rst(net.vip, net.client, seq=BACKEND_NEXT),
    )


@packet_case()
def from_the_client_by_maglev(net):
    """The hash of the tuple finds the backend again, and the transfer goes on."""
    return consistent(net), [
        from_client(net, net.web1, "PA", data=b"the next part"),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 13),
        from_client(net, net.web1, "PA", seq=CLIENT_NEXT + 13, data=b"and the next"),
    ]


@packet_case()
def from_the_client_by_source_hash(net):
    """The hash of the client's address does as well."""
    return consistent(net, by_source), [
        from_client(net, net.web1, "PA", data=b"the next part"),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 13),
    ]


@packet_case()
def from_the_backend_by_maglev(net):
    """A download: the first packet after the crash is the backend's. It is translated, and not passed
    on to the client from an address that it never heard of."""
    return consistent(net), [
        from_backend(net, net.web1, "PA", data=b"the next part"),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, ack=BACKEND_NEXT + 13),
    ]


@packet_case()
def from_the_backend_by_source_hash(net):
    """The same."""
    return consistent(net, by_source), [
        from_backend(net, net.web1, "PA", data=b"the next part"),
        from_client(net, net.web1, ack=BACKEND_NEXT + 13),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def at_its_end(net):
    """What is left of the connection is its end: FINs are picked up like data, and lead to TIME_WAIT."""
    return consistent(net), [
        from_client(net, net.web1, "FA"),
        table(row(net, net.web1, State.CLIENT_FIN)),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        from_client(net, net.web1, "A", seq=CLIENT_NEXT + 1, ack=BACKEND_NEXT + 1),
        table(row(net, net.web1, State.TIME_WAIT)),
    ]


@packet_case()
def a_guess_that_was_wrong(net):
    """The backend does not know the connection: its RST ends it for the client as well."""
    return consistent(net), [
        from_client(net, net.web1),
        from_backend(net, net.web1, "R", ack=0),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def a_reset_is_not_picked_up(net):
    """An RST begins nothing, in neither direction; the backend's is left to the host."""
    return consistent(net), [
        drop(tcp(net.client, net.vip, "R", seq=CLIENT_NEXT), DropReason.NO_CONNECTION),
        leave(
            tcp(net.web1, net.client, "R", seq=BACKEND_NEXT),
            host=[tcp(net.web1, net.client, "R", seq=BACKEND_NEXT, ttl=HOP)],
        ),
        table(),
    ]


@packet_case()
def damaged_flags_are_not_picked_up(net):
    """What no TCP sends belongs to no connection, from a backend neither."""
    bad = [tcp(net.web1, net.client, flags, **BACK) for flags in ("", "F", "FPU", "PU")]
    on = [tcp(net.web1, net.client, flags, **BACK, ttl=HOP) for flags in ("", "F", "FPU", "PU")]
    return consistent(net), [
        [drop(tcp(net.client, net.vip, flags), DropReason.BAD_TCP_FLAGS) for flags in ("", "F", "FPU")],
        [leave(packet, host=[out]) for packet, out in zip(bad, on, strict=True)],
        table(),
    ]


@packet_case()
def refused_by_round_robin(net):
    """The turn says nothing about where the connection was: RST, and the client connects anew."""
    return plan(service(net)), [refused(net, flags="PA", data=b"?"), refused(net), table()]


@packet_case()
def from_the_backend_by_round_robin(net):
    """It may be of a direct connection, so the host forwards it; a client that does not know it will
    reset it."""
    packet = tcp(net.web1, net.client, "PA", **BACK, data=b"?")
    return plan(service(net)), [
        leave(packet, host=[tcp(net.web1, net.client, "PA", **BACK, data=b"?", ttl=HOP)]),
        table(),
    ]


@packet_case()
def refused_with_affinity(net):
    """A client that was sent elsewhere by affinity is not where the hash would look."""
    return consistent(net, affinity=300.0), [refused(net), table()]


@packet_case()
def refused_under_full_nat(net):
    """The backend knew the client by a source port that is forgotten: another one would only make it
    say what the gateway can say itself."""
    return consistent(net, nat=FULL), [refused(net), table()]


@packet_case()
def refused_when_nobody_is_there(net):
    """All backends are down."""
    return plan(service(net, selection=NOBODY)), [
        reply(
            tcp(net.client, net.vip, "A", **NUMBERS),
            DropReason.NO_CONNECTION,
            rst(net.vip, net.client, seq=BACKEND_NEXT),
        )
    ]


@packet_case()
def of_another_backend(net):
    """A backend that the hash would not have chosen: its packet is of a direct connection."""
    packet = tcp(net.web2, net.client, "PA", **BACK, data=b"?")
    return consistent(net), [
        leave(packet, host=[tcp(net.web2, net.client, "PA", **BACK, data=b"?", ttl=HOP)]),
        table(),
    ]


@packet_case()
def of_a_direct_connection(net):
    """A client that connects to the backend's own address: the SYN/ACK shows that it is none of ours,
    and what follows is left alone, though the hash would say otherwise."""
    client = net.client.at(42_001)
    handshake = [
        (tcp(client, net.web1, "S", seq=1), tcp(client, net.web1, "S", seq=1, ttl=HOP)),
        (tcp(net.web1, client, "SA", seq=7, ack=2), tcp(net.web1, client, "SA", seq=7, ack=2, ttl=HOP)),
        (tcp(client, net.web1, "A", seq=2, ack=8), tcp(client, net.web1, "A", seq=2, ack=8, ttl=HOP)),
        (
            tcp(net.web1, client, "PA", seq=8, ack=2, data=b"hello"),
            tcp(net.web1, client, "PA", seq=8, ack=2, data=b"hello", ttl=HOP),
        ),
    ]
    return consistent(net), [[leave(packet, host=[out]) for packet, out in handshake], table()]


@packet_case()
def into_a_full_table(net):
    """What is picked up needs room like any other."""
    full_table = plan(service(net, selection=by_flow(0)), limits=Limits(established=1))
    return full_table, [
        from_client(net, net.web1),
        drop(tcp(net.second, net.vip, "A", **NUMBERS), DropReason.ESTABLISHED_FULL),
        leave(
            tcp(net.web1, net.second, "A", **BACK),
            host=[tcp(net.web1, net.second, "A", **BACK, ttl=HOP)],
        ),
        from_client(net, net.web1),
    ]


@packet_case()
def udp_needs_no_pickup(net):
    """Every datagram can begin a flow. A reply of a flow that is forgotten is left to the host."""
    return plan(service(net, protocol=UDP, selection=by_flow(0))), [
        leave(udp(net.web1, net.client), host=[udp(net.web1, net.client, ttl=HOP)])
    ]


@packet_case()
def a_syn_is_no_pickup(net):
    """A new connection is half-open, also where the hash would find it again."""
    return consistent(net), [syn(net, net.web1), table(row(net, net.web1, State.SYN_SENT))]
