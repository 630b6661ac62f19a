"""RSTs, whom they can be meant for, and segments that are answered with one (RFC 5961, RFC 9293 3.10.7)."""

from l4lb.model import DropReason, State
from tests.conformance.case import drop, forward, packet_case, reply, table, wait
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
from tests.conformance.packets import TTL, patched, rst, tcp
from tests.conformance.plans import plan, service
from tests.conformance.world import V4


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
        from_client(net, net.web1, "R", seq=CLIENT_NEXT, ack=0),
        table(row(net, net.web1, State.CLOSED)),
    ]


@packet_case()
def rst_at_the_edge_of_the_window(net):
    """One beyond it changes nothing, also in the long run. One at its end may be the end."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT - 1, ack=0),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT + 0x10000, ack=0),
        from_backend(net, net.web1, "R", seq=BACKEND_NEXT - 1, ack=0),
        from_backend(net, net.web1, "R", seq=BACKEND_NEXT + 0x10000, ack=0),
        wait(11.0),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT + 0xFFFF, ack=0),
        table(row(net, net.web1, State.ESTABLISHED)),
        wait(11.0),
        table(),
    ]


@packet_case()
def rst_that_may_be_forged(net):
    """One in the window without the very number that its receiver waits for: who gets it asks back, which
    shows that the connection lives (RFC 5961 3.2), and it stays. One that nobody contradicts was an end,
    behind data that was under way."""
    return plan(service(net)), [
        handshake(net, net.web1),
        from_backend(net, net.web1),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT + 1000, ack=0),
        from_backend(net, net.web1),
        wait(11.0),
        from_backend(net, net.web1, "R", seq=BACKEND_NEXT + 1000, ack=0),
        from_client(net, net.web1),
        wait(11.0),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_backend(net, net.web1, "RA", seq=BACKEND_NEXT + 1000),
        wait(11.0),
        table(),
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
        wait(11.0),
        table(row(net, net.web1, State.ESTABLISHED)),
        from_client(net, net.web1, "R", seq=CLIENT_NEXT + window, ack=0),
        wait(11.0),
        table(),
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
def options_that_cannot_be_read(net):
    """A SYN whose options end early or lie about their length is the backend's business. It offers no
    scaling that could be believed, so an RST beyond 64 KB is not either."""
    answer = {"seq": BACKEND_SEQ, "ack": CLIENT_NEXT, "tcp_options": [("NOP", None), ("WScale", 14)]}
    steps, rows = [], []
    for port, options in enumerate(
        ("0003030e", "03020e00", "03040e00", "02ff030e", "01010103"), start=41_000
    ):
        client = net.client.at(port)
        opening = [
            patched(
                tcp(client, destination, "S", seq=CLIENT_SEQ, tcp_options=[("MSS", 1460)], ttl=ttl),
                net.header + 20,
                bytes.fromhex(options),
            )
            for destination, ttl in ((net.vip, TTL), (net.web1, HOP))
        ]
        rows.append(row(net, net.web1, State.ESTABLISHED, client))
        steps += [
            forward(*opening),
            forward(tcp(net.web1, client, "SA", **answer), tcp(net.vip, client, "SA", **answer, ttl=HOP)),
            from_client(net, net.web1, "A", client),
            from_backend(net, net.web1, "R", client, seq=BACKEND_NEXT + 0x10000, ack=0),
            table(*rows),
        ]
    return plan(service(net, net.web1)), steps


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
        wait(11.0),
        table(),
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
