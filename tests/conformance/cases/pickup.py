"""Mid-stream packets of connections that nobody knows, after a crash or a failover (DESIGN 7).

Where the scheduler is a consistent hash the backend is found again; where it is not, the sender is
told at once.
"""

from dataclasses import replace

from l4lb.model import DropReason, Limits, State
from tests.conformance.case import Need, drop, forward, leave, packet_case, reply, table, wait
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    HOP,
    from_backend,
    from_client,
    handshake,
    row,
    syn,
)
from tests.conformance.packets import plain, rst, tcp, udp
from tests.conformance.plans import FULL, NOBODY, UDP, by_flow, by_source, plan, service
from tests.conformance.world import Host

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


def passed_on(packet, *out):
    """The host forwards it; ``out`` is what the gateway says besides."""
    source, destination, flags, numbers = packet
    return leave(
        tcp(source, destination, flags, **numbers),
        *out,
        host=[tcp(source, destination, flags, **numbers, ttl=HOP)],
    )


def told(net, client, vip=None):
    """What a client hears whose connection may be the one that cannot be found again: an RST, if this
    segment is the next that it expects (RFC 5961 3.2), and an ACK from below its window, which it
    answers (RFC 9293 3.10.7.4) and is refused, if it has the segment already."""
    vip = vip or net.vip
    last = {"seq": BACKEND_NEXT - 1, "ack": CLIENT_NEXT, "window": 0}
    return rst(vip, client, seq=BACKEND_NEXT), tcp(vip, client, "A", **last, **plain(vip))


@packet_case()
def from_the_client_by_maglev(net):
    """The hash of the tuple finds the backend again, and the transfer goes on."""
    return consistent(net), [
        from_client(net, net.web1, "PA", data=b"the next part"),
        table(row(net, net.web1, State.SYN_SENT)),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 13),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, "PA", seq=CLIENT_NEXT + 13, data=b"and the next"),
    ]


@packet_case()
def from_the_client_by_source_hash(net):
    """The hash of the client's address does as well."""
    return consistent(net, by_source), [
        from_client(net, net.web1, "PA", data=b"the next part"),
        table(row(net, net.web1, State.SYN_SENT)),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 13),
        table(row(net, net.web1, State.ESTABLISHED)),
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
def from_the_backend_but_not_ours(net):
    """It was of a direct connection that the hash took for one to the VIP: the client's RST says so. It
    goes no further, for it would end the direct connection, which is left alone from now on."""
    client = net.client.at(42_025)
    return consistent(net), [
        from_backend(net, net.web1, "PA", client, data=b"the next part"),
        drop(tcp(client, net.vip, "R", seq=CLIENT_NEXT), DropReason.NO_CONNECTION),
        passed_on((net.web1, client, "PA", {**BACK, "data": b"the next part"})),
        table(),
    ]


@packet_case()
def from_the_backend_to_nobody(net):
    """No client has a multicast address (RFC 1122 4.2.3.10): such a segment is of no connection that was
    lost, and must not leave by a default route as one from the VIP."""
    group = Host({4: "230.51.100.7", 6: "ff0e::5"}[net.version], 40_005)
    return consistent(net), [leave(tcp(net.web1, group, "PA", **BACK, data=b"data")), table()]


@packet_case(needs=[Need.SHARED_PICKUP])
def from_a_backend_of_two_services(net):
    """Both may have lost the connection. The client denies that it is the first one's; when the backend
    sends again it is taken for the second one's."""
    client, other = net.client.at(42_026), net.vip.at(81)
    both = plan(service(net, selection=by_flow(0)), service(net, selection=by_flow(0), vip=other))
    segment = tcp(net.web1, client, "PA", **BACK, data=b"?")
    return both, [
        from_backend(net, net.web1, "PA", client, data=b"?"),
        drop(tcp(client, net.vip, "R", seq=CLIENT_NEXT), DropReason.NO_CONNECTION),
        forward(segment, tcp(other, client, "PA", **BACK, data=b"?", ttl=HOP)),
        forward(
            tcp(client, other, "A", seq=CLIENT_NEXT, ack=BACKEND_NEXT + 1),
            tcp(client, net.web1, "A", seq=CLIENT_NEXT, ack=BACKEND_NEXT + 1, ttl=HOP),
        ),
        table(row(net, net.web1, State.ESTABLISHED, client)),
    ]


@packet_case()
def from_a_backend_of_two_services_one_of_which_cannot_find_it(net):
    """It is taken for the one's that can, and the client is told that it is over if it was the other's."""
    client, other = net.client.at(42_027), net.vip.at(81)
    return plan(service(net, selection=by_flow(0)), service(net, vip=other)), [
        forward(
            tcp(net.web1, client, "PA", **BACK, data=b"?"),
            *told(net, client, other),
            tcp(net.vip, client, "PA", **BACK, data=b"?", ttl=HOP),
        ),
        forward(
            tcp(net.web1, client, "PA", **BACK, data=b"?"),
            tcp(net.vip, client, "PA", **BACK, data=b"?", ttl=HOP),
        ),
    ]


@packet_case()
def at_its_end(net):
    """What is left of the connection is its end: FINs are picked up like data. The client's may be
    forged and is not believed, but a backend that closes is the end of it soon."""
    return consistent(net), [
        from_client(net, net.web1, "FA"),
        table(row(net, net.web1, State.SYN_SENT)),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        from_client(net, net.web1, "A", seq=CLIENT_NEXT + 1, ack=BACKEND_NEXT + 1),
        table(row(net, net.web1, State.BACKEND_FIN)),
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
def a_reset_behind_a_syn(net):
    """The client has forgotten the connection and says so, on its port, by way of the VIP: the reset that
    answers the backend's challenge is the backend's."""
    return consistent(net), [
        from_client(net, net.web1),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 7),
        syn(net, net.web1),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 7),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT + 7, ack=0),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def a_forged_reset_behind_a_forged_syn(net):
    """Whatever numbers they have, the connection goes on: a reset is judged by its number."""
    last = 0xFFFF_FFFF
    return consistent(net), [
        from_client(net, net.web1),
        from_backend(net, net.web1),
        forward(tcp(net.client, net.vip, "S", seq=last), tcp(net.client, net.web1, "S", seq=last, ttl=HOP)),
        from_client(net, net.web1, "R", seq=77, ack=0),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_backend(net, net.web1),
    ]


@packet_case()
def a_reset_is_not_picked_up(net):
    """An RST begins nothing, in neither direction; the backend's is left to the host."""
    client = net.client.at(42_023)
    return consistent(net), [
        drop(tcp(net.client, net.vip, "R", seq=CLIENT_NEXT), DropReason.NO_CONNECTION),
        passed_on((net.web1, client, "R", {"seq": BACKEND_NEXT})),
        table(),
    ]


@packet_case()
def damaged_flags_are_not_picked_up(net):
    """What no TCP sends belongs to no connection, from a backend neither."""
    client = net.client.at(42_024)
    return consistent(net), [
        [drop(tcp(net.client, net.vip, flags), DropReason.BAD_TCP_FLAGS) for flags in ("", "F", "FPU")],
        [passed_on((net.web1, client, flags, BACK)) for flags in ("", "F", "FPU", "PU")],
        table(),
    ]


@packet_case()
def refused_by_round_robin(net):
    """The turn says nothing about where the connection was: RST, and the client connects anew."""
    return plan(service(net)), [refused(net, flags="PA", data=b"?"), refused(net), table()]


@packet_case()
def from_the_backend_by_round_robin(net):
    """Whose it was cannot be found out. It may be of a direct connection, so the host forwards it. It
    may have been ours, and a client that waits for data would never learn that there is nothing to
    wait for: it is told, once, in words that mean nothing to one without such a connection."""
    client = net.client.at(42_020)
    return plan(service(net)), [
        passed_on((net.web1, client, "PA", {**BACK, "data": b"?"}), *told(net, client)),
        passed_on((net.web1, client, "PA", {**BACK, "data": b"?"})),
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
    """A backend that the hash would not choose now: of a direct connection, or of one to the VIP from
    before the backends changed."""
    client = net.client.at(42_021)
    return consistent(net), [
        passed_on((net.web2, client, "PA", {**BACK, "data": b"?"}), *told(net, client)),
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
    client = net.second.at(42_022)
    full_table = plan(service(net, selection=by_flow(0)), limits=Limits(established=1))
    return full_table, [
        from_client(net, net.web1),
        from_backend(net, net.web1),
        drop(tcp(client, net.vip, "A", **NUMBERS), DropReason.ESTABLISHED_FULL),
        passed_on((net.web1, client, "A", BACK), *told(net, client)),
        from_client(net, net.web1),
    ]


@packet_case()
def from_the_backend_into_a_table_full_of_what_is_over(net):
    """One that is over gives its place, if it has been so for a second; else the backend will send its
    segment again, and is no direct client's for that."""
    client = net.second.at(42_022)
    segment = tcp(net.web1, client, "PA", **BACK, data=b"still here")
    balanced = replace(consistent(net), limits=Limits(established=1))
    return balanced, [
        handshake(net, net.web1),
        from_client(net, net.web1, "FA"),
        from_backend(net, net.web1, "FA", ack=CLIENT_NEXT + 1),
        drop(segment, DropReason.ESTABLISHED_FULL),
        wait(1.5),
        from_backend(net, net.web1, "PA", client, data=b"still here"),
        table(row(net, net.web1, State.ESTABLISHED, client)),
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
