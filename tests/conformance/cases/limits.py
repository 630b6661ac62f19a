"""A full table refuses by reason, and whoever is established is left alone (DESIGN 3, 7)."""

from dataclasses import replace

from l4lb.model import DropReason, Limits, State
from tests.conformance.case import Need, Row, drop, forward, packet_case, reply, table, wait
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
from tests.conformance.packets import rst, tcp, udp
from tests.conformance.plans import UDP, full, plan, service


def limited(net, *, half_open=100, established=100, **settings):
    return plan(
        service(net, net.web1, **settings), limits=Limits(half_open=half_open, established=established)
    )


def refused(net, reason, client):
    return drop(tcp(client, net.vip, "S", seq=CLIENT_SEQ), reason)


@packet_case()
def half_open_full_of_young_ones(net):
    """Handshakes that may be under way are not disturbed: for a second, one initial RTO (RFC 6298
    2.1), the newcomer is refused. Its SYN will come again."""
    return limited(net, half_open=2), [
        syn(net, net.web1),
        syn(net, net.web1, net.client.at(40_001)),
        refused(net, DropReason.HALF_OPEN_FULL, net.second),
        syn_ack(net, net.web1),
        from_client(net, net.web1),
        syn(net, net.web1, net.second),
        table(
            row(net, net.web1, State.ESTABLISHED),
            row(net, net.web1, State.SYN_SENT, net.client.at(40_001)),
            row(net, net.web1, State.SYN_SENT, net.second),
        ),
    ]


@packet_case()
def half_open_full_of_old_ones(net):
    """Who has not answered for more than a second gives way to a newcomer, the oldest first: a flood
    of forged SYNs pushes out forged SYNs."""
    packet = syn(net, net.web1, net.second)
    evicting = forward(packet.packet, *packet.out, evicts=1)
    return limited(net, half_open=2), [
        syn(net, net.web1),
        wait(0.5),
        syn(net, net.web1, net.client.at(40_001)),
        wait(0.4),
        refused(net, DropReason.HALF_OPEN_FULL, net.second),
        wait(0.2),
        evicting,
        table(
            row(net, net.web1, State.SYN_SENT, net.client.at(40_001)),
            row(net, net.web1, State.SYN_SENT, net.second),
        ),
    ]


@packet_case()
def a_flood_leaves_established_connections_alone(net):
    """However many SYNs come, a connection that exists goes on, and completes closing."""
    flood = [syn(net, net.web1, net.second.at(50_000 + number)) for number in range(4)]
    more = [
        forward(one.packet, *one.out, evicts=1)
        for one in (syn(net, net.web1, net.second.at(60_000 + number)) for number in range(4))
    ]
    return limited(net, half_open=4), [
        handshake(net, net.web1),
        flood,
        wait(1.5),
        more,
        from_client(net, net.web1, "PA", data=b"still here"),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 10),
    ]


@packet_case()
def reset_handshakes_count_as_half_open(net):
    """A forged SYN and a forged RST behind it, or a backend that refuses, must not fill the part of
    the table that is for established connections."""
    flood = [
        [
            syn(net, net.web1, net.second.at(port)),
            from_client(net, net.web1, "R", net.second.at(port), seq=CLIENT_NEXT, ack=0),
        ]
        for port in (50_000, 50_001)
    ]
    return limited(net, established=2), [
        *flood,
        syn(net, net.web1, net.second),
        from_backend(net, net.web1, "RA", net.second, seq=0, ack=CLIENT_NEXT),
        handshake(net, net.web1),
        handshake(net, net.web1, net.client.at(40_001)),
    ]


@packet_case()
def established_full(net):
    """No new connection, half-open or not; the established ones are untouched and, when one ends,
    there is room again."""
    return limited(net, established=1), [
        handshake(net, net.web1),
        refused(net, DropReason.ESTABLISHED_FULL, net.second),
        from_client(net, net.web1, "PA", data=b"still here"),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_backend(net, net.web1, "R", ack=0),
        wait(12.0),
        syn(net, net.web1, net.second),
    ]


def closed(net, client):
    """A connection that both ends have closed."""
    return [*handshake(net, net.web1, client), *closing(net, net.web1, client)]


def refused_late(net):
    """The second client's handshake ends where there is no room: it is told, and so is its backend."""
    return reply(
        tcp(net.second, net.vip, "A", seq=CLIENT_NEXT, ack=BACKEND_NEXT),
        DropReason.ESTABLISHED_FULL,
        rst(net.vip, net.second, seq=BACKEND_NEXT),
        rst(net.second, net.web1, seq=CLIENT_NEXT),
    )


@packet_case()
def what_is_over_gives_way(net):
    """TIME_WAIT is remembered as long as there is room: a connection that becomes established takes the
    place of one that is over, as with early_drop() in nf_conntrack_core.c. A SYN, which may be forged,
    does not."""
    return limited(net, established=1), [
        closed(net, net.client),
        wait(1.5),
        syn(net, net.web1, net.second),
        syn_ack(net, net.web1, net.second),
        table(
            row(net, net.web1, State.TIME_WAIT),
            row(net, net.web1, State.SYN_RECEIVED, net.second),
        ),
        from_client(net, net.web1, client=net.second),
        table(row(net, net.web1, State.ESTABLISHED, net.second)),
        refused(net, DropReason.ESTABLISHED_FULL, net.client.at(40_001)),
        reply(
            tcp(net.client, net.vip, "A", seq=CLIENT_NEXT + 1, ack=BACKEND_NEXT + 1),
            DropReason.NO_CONNECTION,
            rst(net.vip, net.client, seq=BACKEND_NEXT + 1),
        ),
    ]


@packet_case()
def what_has_just_ended_does_not_give_way(net):
    """A segment that was lost may still be sent again: an end has the time that a handshake has, from its
    last packet on. One that is older gives way, though it ended later."""
    one, two = net.client.at(40_001), net.client.at(40_002)
    again = from_backend(net, net.web1, "FA", one, ack=CLIENT_NEXT + 1)
    return limited(net, established=2), [
        closed(net, one),
        closed(net, two),
        syn(net, net.web1),
        syn_ack(net, net.web1),
        wait(1.5),
        again,
        from_client(net, net.web1),
        table(row(net, net.web1, State.TIME_WAIT, one), row(net, net.web1, State.ESTABLISHED)),
        again,
    ]


@packet_case(needs=[Need.SEVERAL_OUT])
def nothing_but_what_has_just_ended(net):
    """The newcomer is told, and so is its backend."""
    return limited(net, established=1), [
        closed(net, net.client),
        syn(net, net.web1, net.second),
        syn_ack(net, net.web1, net.second),
        refused_late(net),
        table(row(net, net.web1, State.TIME_WAIT)),
    ]


@packet_case()
def the_first_that_is_over_gives_way_first(net):
    """In the order in which they ended, which is not that in which they began; then nobody gives way."""
    one, two, three = (net.client.at(40_000 + number) for number in range(1, 4))
    return limited(net, established=3), [
        handshake(net, net.web1, one),
        handshake(net, net.web1, two),
        closed(net, three),
        from_client(net, net.web1, "FA", one),
        from_backend(net, net.web1, "FA", one, ack=CLIENT_NEXT + 1),
        wait(1.5),
        handshake(net, net.web1, net.second),
        table(
            row(net, net.web1, State.LAST_ACK, one),
            row(net, net.web1, State.ESTABLISHED, two),
            row(net, net.web1, State.ESTABLISHED, net.second),
        ),
        handshake(net, net.web1, three),
        table(
            row(net, net.web1, State.ESTABLISHED, two),
            row(net, net.web1, State.ESTABLISHED, net.second),
            row(net, net.web1, State.ESTABLISHED, three),
        ),
        refused(net, DropReason.ESTABLISHED_FULL, net.second.at(50_000)),
    ]


@packet_case()
def one_that_is_over_and_used_again_does_not_give_way(net):
    """A tuple that was closed once and is a connection again is as good as any."""
    return limited(net, established=2), [
        closed(net, net.client),
        handshake(net, net.web1),
        handshake(net, net.web1, net.client.at(40_001)),
        wait(1.5),
        refused(net, DropReason.ESTABLISHED_FULL, net.second),
        table(
            row(net, net.web1, State.ESTABLISHED),
            row(net, net.web1, State.ESTABLISHED, net.client.at(40_001)),
        ),
    ]


@packet_case()
def many_that_ended_and_were_forgotten(net):
    """Those that have expired are not in the way of one that is over now."""
    return limited(net, established=100), [
        *[step for port in range(100) for step in closed(net, net.second.at(50_000 + port))],
        wait(70.0),
        *[step for port in range(99) for step in handshake(net, net.web1, net.client.at(40_001 + port))],
        closed(net, net.client),
        wait(1.5),
        handshake(net, net.web1, net.second),
        refused(net, DropReason.ESTABLISHED_FULL, net.client),
    ]


@packet_case()
def what_is_over_gives_way_to_a_datagram(net):
    """When its client goes on after an answer."""
    flows = service(net, net.web1, protocol=UDP)
    limits = Limits(half_open=100, established=1)
    return plan(service(net, net.web1), flows, limits=limits), [
        closed(net, net.client),
        wait(1.5),
        asked(net, net.web1, net.second),
        answered(net, net.web1, net.second),
        table(
            row(net, net.web1, State.TIME_WAIT),
            row(net, net.web1, State.UDP_ANSWERED, net.second),
        ),
        asked(net, net.web1, net.second),
        table(row(net, net.web1, State.UDP, net.second)),
    ]


@packet_case()
def what_is_over_gives_its_place_and_its_port(net):
    """Under full NAT its source port is free again as well."""
    one, two = net.wan.at(20_000), net.client.at(40_001)
    balanced = full(net, net.web1, net.web2)
    source = {"source": one}
    return replace(balanced, limits=Limits(half_open=100, established=1)), [
        handshake(net, net.web1, **source),
        closing(net, net.web1, **source),
        wait(1.5),
        handshake(net, net.web2, net.second, **source),
        table(Row(net.second, net.web2, State.ESTABLISHED, one)),
        from_client(net, net.web2, "FA", net.second, **source),
        from_backend(net, net.web2, "FA", net.second, **source, ack=CLIENT_NEXT + 1),
        wait(1.5),
        handshake(net, net.web1, two, **source),
        table(Row(two, net.web1, State.ESTABLISHED, one)),
    ]


@packet_case()
def established_full_at_the_end_of_a_handshake(net):
    """Two handshakes for one place: who comes second is told, and so is the backend, which believed
    in a connection."""
    return limited(net, established=1), [
        syn(net, net.web1),
        syn(net, net.web1, net.second),
        syn_ack(net, net.web1),
        syn_ack(net, net.web1, net.second),
        from_client(net, net.web1),
        refused_late(net),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def refused_by_the_backend_while_established_full(net):
    """An RST needs no room: the client of a refused handshake hears of it though the table is full."""
    return limited(net, established=1), [
        syn(net, net.web1),
        handshake(net, net.web1, net.second),
        from_backend(net, net.web1, "RA", seq=0, ack=CLIENT_NEXT),
    ]


@packet_case()
def udp_flows_full(net):
    """A question and its answer are half-open, a client that goes on after it makes it established."""
    limits = limited(net, half_open=1, established=1, protocol=UDP)
    return limits, [
        asked(net, net.web1),
        drop(udp(net.second, net.vip), DropReason.HALF_OPEN_FULL),
        answered(net, net.web1),
        drop(udp(net.second, net.vip), DropReason.HALF_OPEN_FULL),
        asked(net, net.web1),
        drop(udp(net.second, net.vip), DropReason.ESTABLISHED_FULL),
        asked(net, net.web1),
    ]


@packet_case()
def a_place_is_free_again(net):
    """A handshake that ends makes room among the half-open at once."""
    return limited(net, half_open=1), [
        syn(net, net.web1),
        refused(net, DropReason.HALF_OPEN_FULL, net.second),
        syn_ack(net, net.web1),
        refused(net, DropReason.HALF_OPEN_FULL, net.second),
        from_client(net, net.web1),
        forward(
            tcp(net.second, net.vip, "S", seq=CLIENT_SEQ),
            tcp(net.second, net.web1, "S", seq=CLIENT_SEQ, ttl=HOP),
        ),
    ]
