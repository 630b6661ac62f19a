"""The life of a TCP connection as the gateway sees it (RFC 9293 3.3.2, 3.10; l4lb/director/states.py)."""

from l4lb.model import DropReason, State
from tests.conformance.case import drop, forward, packet_case, reply, table
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    BACKEND_SEQ,
    CLIENT_NEXT,
    CLIENT_SEQ,
    HOP,
    from_backend,
    from_client,
    handshake,
    row,
    syn,
    syn_ack,
)
from tests.conformance.packets import rst, tcp
from tests.conformance.plans import plan, service
from tests.conformance.world import V4

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


# -- port reuse ------------------------------------------------------------------------------------


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
def port_reuse_after_a_reset(net):
    """A client that was reset may use the port again at once."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1, "R", ack=0),
        table(row(net, net.web1, State.CLOSED)),
        syn(net, net.web2),
        table(row(net, net.web2, State.SYN_SENT)),
    ]


# -- RST -------------------------------------------------------------------------------------------


@packet_case()
def reset_by_the_client(net):
    """An RST with the number that the backend expects next ends the connection (RFC 5961 3.2)."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "R", ack=0),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def reset_by_the_backend(net):
    """RST with ACK, as Linux sends it for a socket closed with unread data."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", data=b"unread"),
        from_backend(net, net.web1, "RA", ack=CLIENT_NEXT + 6),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def rst_with_a_wrong_number(net):
    """A forged RST has to guess the sequence number (RFC 5961 3). It goes through, its receiver will
    not believe it, and the gateway must not either: below what was acknowledged, and beyond the
    largest window without scaling."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1),
        [
            from_client(net, net.web1, "R", seq=seq, ack=0)
            for seq in (0, CLIENT_NEXT - 1, CLIENT_NEXT + 0x10000, CLIENT_NEXT + 2**31)
        ],
        [
            from_backend(net, net.web1, "R", seq=seq, ack=0)
            for seq in (0, BACKEND_NEXT - 1, BACKEND_NEXT + 0x10000, BACKEND_NEXT + 2**31)
        ],
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT + 0xFFFF, ack=0),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def rst_in_a_scaled_window(net):
    """With window scaling (RFC 7323 2.2) data in flight, and so an RST behind it, can lie further
    ahead: 65,535 times two to the receiver's shift."""

    def opening(shift, back):
        there = {"seq": CLIENT_SEQ, "tcp_options": [("MSS", 1460), ("NOP", None), ("WScale", shift)]}
        numbers = {"seq": BACKEND_SEQ, "ack": CLIENT_NEXT}
        answer = {**numbers, "tcp_options": [("NOP", None), ("WScale", back)]}
        return [
            forward(
                tcp(net.client, net.vip, "S", **there), tcp(net.client, net.web1, "S", **there, ttl=HOP)
            ),
            forward(
                tcp(net.web1, net.client, "SA", **answer), tcp(net.vip, net.client, "SA", **answer, ttl=HOP)
            ),
            from_client(net, net.web1),
            from_backend(net, net.web1),
        ]

    window = 0xFFFF << 7
    return plan(service(net)), [
        opening(2, 7),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT + window + 1, ack=0),
        from_backend(net, net.web1, "R", seq=BACKEND_NEXT + (0xFFFF << 2) + 1, ack=0),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT + window, ack=0),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def scaling_that_only_one_end_offers(net):
    """Windows are scaled only if both SYNs say so (RFC 7323 1.3): what one end offers alone makes no
    forged RST more believable."""
    options = {"tcp_options": [("NOP", None), ("WScale", 14)]}
    return plan(service(net)), [
        forward(
            tcp(net.client, net.vip, "S", seq=CLIENT_SEQ, **options),
            tcp(net.client, net.web1, "S", seq=CLIENT_SEQ, **options, ttl=HOP),
        ),
        handshake(net, net.web1)[1:],
        from_backend(net, net.web1),
        from_backend(net, net.web1, "R", seq=BACKEND_NEXT + 0x10000, ack=0),
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def sequence_numbers_wrap(net):
    """Numbers are modulo 2**32: an RST just behind the wrap is acceptable to who expects one before
    it."""
    top = {"seq": 2**32 - 2, "data": b"1234"}
    return plan(service(net)), [
        handshake(net, net.web1),
        from_client(net, net.web1, "PA", **top),
        from_backend(net, net.web1, ack=2**32 - 2),
        from_client(net, net.web1, "R", seq=2, ack=0),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def refused_by_the_backend(net):
    """Nobody listens on the backend: its RST goes to the client, and the SYN sent again is a new
    connection."""
    return plan(service(net)), [
        syn(net, net.web1),
        from_backend(net, net.web1, "RA", seq=0, ack=CLIENT_NEXT),
        table(row(net, net.web1, State.CLOSED)),
        syn(net, net.web2),
    ]


@packet_case()
def half_open_reset_by_the_client(net):
    """A port scanner resets what the backend has answered. The crossing SYN/ACK of the backend still
    finds the way to it."""
    return plan(service(net)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        from_client(net, net.web1, "R", ack=0),
        table(row(net, net.web1, State.CLOSED)),
        syn_ack(net, net.web1),
    ]


# -- what no connection begins with ----------------------------------------------------------------


@packet_case()
def bad_flags_for_a_new_connection(net):
    """Combinations that no TCP sends: scans, or damage (the list of nf_conntrack's tcp_valid_flags)."""
    return plan(service(net)), [
        [
            drop(tcp(net.client, net.vip, flags), DropReason.BAD_TCP_FLAGS)
            for flags in ("", "F", "P", "U", "FPU", "SF", "SFA", "SR", "SRA", "FR", "FRA", "SFRPAU", "SAU")
        ],
        table(),
    ]


@packet_case()
def bad_flags_in_a_connection(net):
    """They change nothing there either, from both ends."""
    numbers = {"seq": CLIENT_NEXT, "ack": BACKEND_NEXT}
    back = {"seq": BACKEND_NEXT, "ack": CLIENT_NEXT}
    bad = ("", "F", "U", "FPU", "SF", "SFA", "SR", "SRA", "FR", "FRA", "SFRPAU")
    return plan(service(net)), [
        handshake(net, net.web1),
        [drop(tcp(net.client, net.vip, flags, **numbers), DropReason.BAD_TCP_FLAGS) for flags in bad],
        [drop(tcp(net.web1, net.client, flags, **back), DropReason.BAD_TCP_FLAGS) for flags in bad],
        table(row(net, net.web1, State.ESTABLISHED)),
    ]


@packet_case()
def syn_ack_from_nowhere(net):
    """No connection with a service begins with SYN/ACK: it is the echo of somebody's forged SYN."""
    return plan(service(net)), [
        drop(tcp(net.client, net.vip, "SA", seq=7, ack=9), DropReason.BAD_TCP_FLAGS)
    ]


@packet_case()
def rst_from_nowhere(net):
    """An RST is never answered (RFC 9293 3.10.7.1)."""
    return plan(service(net)), [
        drop(tcp(net.client, net.vip, "R", seq=7), DropReason.NO_CONNECTION),
        drop(tcp(net.client, net.vip, "RA", seq=7, ack=9), DropReason.NO_CONNECTION),
    ]


@packet_case()
def mid_stream_refused(net):
    """A segment of no connection, where nothing can tell whose it was: RST, with the number its sender
    expects (RFC 9293 3.10.7.1), so that it does not wait for its own timeout."""
    numbers = {"seq": 5_000, "ack": 6_000}
    return plan(service(net)), [
        reply(
            tcp(net.client, net.vip, flags, **numbers, data=data),
            DropReason.NO_CONNECTION,
            rst(net.vip, net.client, seq=6_000),
        )
        for flags, data in (("A", b""), ("PA", b"data"), ("FA", b""), ("PAU", b"data"))
    ]


@packet_case(V4)
def the_turn_of_a_refused_segment(net):
    """What is refused takes nobody's turn."""
    refused = reply(
        tcp(net.client, net.vip, "A", seq=5_000, ack=6_000),
        DropReason.NO_CONNECTION,
        rst(net.vip, net.client, seq=6_000),
    )
    return plan(service(net)), [refused, syn(net, net.web1), syn(net, net.web2, net.second)]
