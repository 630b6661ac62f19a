"""Fragments: only the first shows the ports, the others follow it by the identification.

Each case has identifications of its own, so that an engine may remember those of cases before.
"""

from scapy.layers.inet6 import IPv6ExtHdrDestOpt, PadN

from l4lb.model import DropReason, Limits, State
from tests.conformance.case import (
    change,
    drop,
    forward,
    hold,
    leave,
    packet_case,
    reply,
    sweep,
    table,
    wait,
)
from tests.conformance.exchanges import HOP, answered, asked, handshake, row
from tests.conformance.packets import cut, fragments, icmp, patched, plain, quote, tcp, udp
from tests.conformance.plans import NOBODY, UDP, full, plan, service, snat
from tests.conformance.world import V4, V6

DATA = bytes(range(256)) * 16
SIZES = (1400, 1400)  # and the rest


def cut_up(source, destination, identification, *sizes, ttl=64, **fields):
    """The fragments of a datagram of 4,104 bytes."""
    whole = udp(source, destination, DATA, ttl=ttl, df=False, **fields)
    return fragments(whole, *(sizes or SIZES), identification=identification)


def one_by_one(before, after):
    """Each fragment is forwarded as it comes."""
    return [forward(packet, out) for packet, out in zip(before, after, strict=True)]


@packet_case()
def in_order(net):
    """A datagram in three fragments, both ways. Only the first one's ports and checksum change, and
    the checksum is the whole datagram's (RFC 3022 2.2; DESIGN 7)."""
    there = cut_up(net.client, net.vip, 0x1001), cut_up(net.client, net.web1, 0x1001, ttl=HOP)
    back = cut_up(net.web1, net.client, 0x1002), cut_up(net.vip, net.client, 0x1002, ttl=HOP)
    return plan(service(net, protocol=UDP)), [
        one_by_one(*there),
        table(row(net, net.web1, State.UDP_NEW)),
        one_by_one(*back),
        table(row(net, net.web1, State.UDP_ANSWERED)),
    ]


@packet_case()
def out_of_order(net):
    """Later fragments that overtake the first wait for it, and follow it in their own order (RFC
    4787 REQ-14 asks for out-of-order fragments)."""
    before, after = cut_up(net.client, net.vip, 0x1003), cut_up(net.client, net.web1, 0x1003, ttl=HOP)
    return plan(service(net, protocol=UDP)), [
        hold(before[2]),
        hold(before[1]),
        table(),
        forward(before[0], after[0], after[2], after[1]),
    ]


@packet_case()
def last_before_the_middle(net):
    """Once the first one was seen, the order of the others does not matter."""
    before, after = cut_up(net.client, net.vip, 0x1004), cut_up(net.client, net.web1, 0x1004, ttl=HOP)
    return plan(service(net, protocol=UDP)), [
        forward(before[0], after[0]),
        forward(before[2], after[2]),
        forward(before[1], after[1]),
    ]


@packet_case()
def replies_out_of_order(net):
    """The same from the backend."""
    before, after = cut_up(net.web1, net.client, 0x1005), cut_up(net.vip, net.client, 0x1005, ttl=HOP)
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        hold(before[1]),
        forward(before[0], after[0], after[1]),
        forward(before[2], after[2]),
    ]


@packet_case()
def the_first_is_missing(net):
    """What waits in vain is dropped after 30 s, as reassembly would give it up (RFC 791 3.2), and
    its datagram is forgotten."""
    before = cut_up(net.client, net.vip, 0x1006)
    return plan(service(net, protocol=UDP)), [
        hold(before[1]),
        hold(before[2]),
        wait(29.0),
        wait(2.0, DropReason.FRAGMENT_UNKNOWN, DropReason.FRAGMENT_UNKNOWN),
        hold(before[1]),
    ]


@packet_case()
def a_datagram_is_forgotten(net):
    """Its identification comes round again: after 30 s a later fragment belongs to another datagram,
    whose first one is to come."""
    before, after = cut_up(net.client, net.vip, 0x1022), cut_up(net.client, net.web1, 0x1022, ttl=HOP)
    other, other_out = (
        cut_up(net.client.at(40_001), net.vip, 0x1022),
        cut_up(net.client.at(40_001), net.web2, 0x1022, ttl=HOP),
    )
    return plan(service(net, protocol=UDP)), [
        forward(before[0], after[0]),
        wait(29.0),
        forward(before[1], after[1]),
        wait(2.0),
        hold(other[1]),
        forward(other[0], other_out[0], other_out[1]),
    ]


@packet_case()
def too_many_wait(net):
    """Fragments that wait for one first fragment are bounded in number: more than a datagram of 64 KB
    has at the usual MTU are not kept."""
    whole = udp(net.client, net.vip, bytes(800), df=False)
    pieces = fragments(whole, *[8] * 60, identification=0x1007)
    return plan(service(net, protocol=UDP)), [
        [hold(piece) for piece in pieces[1:49]],
        [drop(piece, DropReason.FRAGMENTS_FULL) for piece in pieces[49:51]],
    ]


@packet_case()
def no_room_for_another_datagram(net):
    """Where there is no room the oldest gives way, and who waits before who is known: forged fragments
    must not keep honest ones out."""
    one, two, three = (cut_up(net.client, net.vip, 0x101A + number) for number in range(3))
    _, two_out, three_out = (cut_up(net.client, net.web1, 0x101A + number, ttl=HOP) for number in range(3))
    return plan(service(net, net.web1, protocol=UDP), limits=Limits(fragments=2)), [
        hold(one[1]),
        hold(two[1]),
        forward(three[0], three_out[0]),
        wait(0.2, DropReason.FRAGMENTS_FULL),
        forward(two[0], two_out[0], two_out[1]),
        forward(three[1], three_out[1]),
        hold(one[1]),
        hold(three[2]),
        forward(two[2], two_out[2]),
    ]


@packet_case()
def two_datagrams_at_once(net):
    """Fragments of different datagrams mix on the way: the identification tells them apart."""
    one, one_out = cut_up(net.client, net.vip, 0x1008), cut_up(net.client, net.web1, 0x1008, ttl=HOP)
    two, two_out = cut_up(net.second, net.vip, 0x1008), cut_up(net.second, net.web2, 0x1008, ttl=HOP)
    three, three_out = cut_up(net.client, net.vip, 0x1009), cut_up(net.client, net.web1, 0x1009, ttl=HOP)
    return plan(service(net, protocol=UDP)), [
        forward(one[0], one_out[0]),
        forward(two[0], two_out[0]),
        forward(three[0], three_out[0]),
        forward(two[1], two_out[1]),
        forward(one[1], one_out[1]),
        forward(three[2], three_out[2]),
        forward(one[2], one_out[2]),
    ]


@packet_case()
def full_nat_both_ways(net):
    """Under full NAT the source of every fragment changes, and the reply's fragments come to the
    gateway's own address: they are the client's all the same."""
    source = snat(net)
    there = cut_up(net.client, net.vip, 0x100A), cut_up(source, net.web1, 0x100A, ttl=HOP)
    back = cut_up(net.web1, source, 0x100B), cut_up(net.vip, net.client, 0x100B, ttl=HOP)
    return full(net, protocol=UDP), [one_by_one(*there), one_by_one(*back)]


@packet_case()
def fragmented_tcp(net):
    """TCP segments are fragmented too where path-MTU discovery is off; the first fragment has the
    whole TCP header."""
    data = {"seq": 1_000_001, "ack": 9_000_001, "data": DATA, "df": False}
    before = fragments(tcp(net.client, net.vip, "PA", **data), *SIZES, identification=0x100C)
    after = fragments(tcp(net.client, net.web1, "PA", **data, ttl=HOP), *SIZES, identification=0x100C)
    return plan(service(net)), [handshake(net, net.web1), one_by_one(before, after)]


@packet_case()
def without_checksum(net):
    """A fragmented datagram without a checksum stays without one: the zero in the first fragment is
    the whole datagram's."""
    before = cut_up(net.client, net.vip, 0x100D, sum=0)
    after = cut_up(net.client, net.web1, 0x100D, sum=0, ttl=HOP)
    return plan(service(net, protocol=UDP)), [one_by_one(before, after)]


@packet_case(V6)
def a_fragment_of_the_whole(net):
    """An IPv6 "atomic" fragment has a fragment header and nothing is missing (RFC 6946): it is
    translated like any packet, and its header stays."""
    before = fragments(udp(net.client, net.vip), identification=0x100E)
    after = fragments(udp(net.client, net.web1, ttl=HOP), identification=0x100E)
    return plan(service(net, protocol=UDP)), [one_by_one(before, after)]


@packet_case(V6)
def extension_headers_in_the_fragments(net):
    """What can be fragmented may begin with an extension header: the ports are behind it, in the
    first fragment only (RFC 8200 4.5)."""
    chain = [IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])]
    before = cut_up(net.client, net.vip, 0x100F, extensions=chain)
    after = cut_up(net.client, net.web1, 0x100F, extensions=chain, ttl=HOP)
    return plan(service(net, protocol=UDP)), [one_by_one(before, after)]


@packet_case(V4)
def ip_options_in_the_fragments(net):
    """Options with the copied flag are in each fragment: later ones have a longer header too."""
    alert = [b"\x94\x04\x00\x00"]
    before = cut_up(net.client, net.vip, 0x1010, options=alert)
    after = cut_up(net.client, net.web1, 0x1010, options=alert, ttl=HOP)
    return plan(service(net, protocol=UDP)), [one_by_one(before, after)]


@packet_case()
def of_a_connection_that_gave_way(net):
    """The first fragment went to a backend that is down by the next one; meanwhile the client's flow has
    begun anew with another. Half a datagram is of no use to that one, and must not lead its connection
    astray: dropped."""
    before, after = cut_up(net.client, net.vip, 0x1023), cut_up(net.client, net.web1, 0x1023, ttl=HOP)
    back, back_on = cut_up(net.web1, net.client, 0x1024), cut_up(net.vip, net.client, 0x1024, ttl=HOP)
    return plan(service(net, protocol=UDP)), [
        forward(before[0], after[0]),
        forward(back[0], back_on[0]),
        change(plan(service(net, protocol=UDP, down=[net.web1]))),
        sweep(),
        asked(net, net.web2),
        drop(before[1], DropReason.NO_CONNECTION),
        drop(back[1], DropReason.NO_CONNECTION),
        answered(net, net.web2),
    ]


@packet_case()
def ttl_of_a_fragment(net):
    """A first fragment at its end is answered; later ones are not talked about (RFC 792, RFC 1122
    3.2.2), and there is nothing they could follow."""
    first, second, _ = cut_up(net.client, net.vip, 0x1011, ttl=1)
    room = (576 if net.version == 4 else 1280) - net.header - 8
    answer = icmp(net.vip, net.client, net.time_exceeded, quote(first, room), **plain(net.vip))
    return plan(service(net, protocol=UDP)), [
        reply(first, DropReason.TTL_EXCEEDED, answer),
        hold(second),
        table(),
    ]


@packet_case()
def ttl_of_a_later_fragment(net):
    """Whose datagram is known: dropped without a word."""
    before, after = cut_up(net.client, net.vip, 0x1012), cut_up(net.client, net.web1, 0x1012, ttl=HOP)
    return plan(service(net, protocol=UDP)), [
        forward(before[0], after[0]),
        drop(cut_up(net.client, net.vip, 0x1012, ttl=1)[1], DropReason.TTL_EXCEEDED),
        forward(before[2], after[2]),
    ]


@packet_case()
def refused_with_its_fragments(net):
    """With all backends down the first fragment is answered like a whole datagram; the others wait
    for a first one that was not forwarded, and are given up."""
    first, second, _ = cut_up(net.client, net.vip, 0x1013)
    room = (576 if net.version == 4 else 1280) - net.header - 8
    answer = icmp(net.vip, net.client, net.port_unreachable, quote(first, room), **plain(net.vip))
    return plan(service(net, protocol=UDP, selection=NOBODY)), [
        reply(first, DropReason.NO_BACKEND, answer),
        hold(second),
        wait(31.0, DropReason.FRAGMENT_UNKNOWN),
    ]


@packet_case()
def overlapping(net):
    """Nothing is reassembled here: fragments that overlap go through as they came, and who puts them
    together judges them (RFC 5722, RFC 1858)."""
    before, after = cut_up(net.client, net.vip, 0x1019), cut_up(net.client, net.web1, 0x1019, ttl=HOP)
    sizes = (1360, 1400)
    shifted = (
        cut_up(net.client, net.vip, 0x1019, *sizes)[1],
        cut_up(net.client, net.web1, 0x1019, *sizes, ttl=HOP)[1],
    )
    return plan(service(net, protocol=UDP)), [
        forward(before[0], after[0]),
        forward(*shifted),
        forward(before[1], after[1]),
        forward(before[0], after[0]),
        forward(before[2], after[2]),
    ]


# -- the host's own --------------------------------------------------------------------------------


@packet_case()
def of_a_direct_connection(net):
    """Fragments from a backend to a client which are no connection of ours: those that had to wait
    for their first one are handed back, and the host forwards all of them."""
    pieces = cut_up(net.web1.at(9999), net.client, 0x1014)
    on = cut_up(net.web1.at(9999), net.client, 0x1014, ttl=HOP)
    return plan(service(net, protocol=UDP)), [
        hold(pieces[1]),
        leave(pieces[0], handed_back=[pieces[1]], host=[on[0], on[1]]),
        leave(pieces[2], host=[on[2]]),
    ]


@packet_case()
def of_another_port_of_the_vip(net):
    """Fragments to the VIP that are not for a service are the host's, in order or not. The host
    reassembles them and knows no such port; here its answer is to a TCP segment."""
    port = net.vip.at(81)
    pieces = fragments(tcp(net.client, port, "S", data=DATA, df=False), *SIZES, identification=0x1015)
    refused = tcp(port, net.client, "RA", ack=1 + len(DATA), window=0)
    return plan(service(net)), [
        hold(pieces[2]),
        leave(pieces[0], handed_back=[pieces[2]]),
        leave(pieces[1], host=[refused]),
    ]


@packet_case()
def of_a_long_ping(net):
    """An echo request that needs three fragments, to a backend and back: the host forwards them, in
    whatever order they come."""

    def pinged(source, destination, kind, ttl=64):
        fields = {"df": False} if net.version == 4 else {}
        whole = icmp(source, destination, kind, DATA, value=7, ttl=ttl, **fields)
        return fragments(whole, *SIZES, identification=0x101E)

    there, there_on = (pinged(net.client, net.web1, net.echo, ttl) for ttl in (64, HOP))
    back, back_on = (pinged(net.web1, net.client, net.echo_reply, ttl) for ttl in (64, HOP))
    return plan(service(net)), [
        [leave(packet, host=[on]) for packet, on in zip(there, there_on, strict=True)],
        hold(back[1]),
        leave(back[0], handed_back=[back[1]], host=[back_on[0], back_on[1]]),
        leave(back[2], host=[back_on[2]]),
    ]


# -- malformed -------------------------------------------------------------------------------------


@packet_case()
def too_small_for_tcp(net):
    """A first fragment that does not hold the TCP header hides it from everybody on the way (RFC
    1858 3): dropped."""
    tiny = fragments(tcp(net.client, net.vip, "S", data=bytes(32), df=False), 16, identification=0x1016)
    return plan(service(net)), [drop(tiny[0], DropReason.BAD_TCP_HEADER)]


@packet_case()
def up_to_64_kib_and_beyond(net):
    """A fragment may end at byte 65,535 of its datagram. One that would end beyond overflows the
    reassembly of old systems (the "ping of death"): dropped."""

    def ending(length, identification):
        """A last fragment of this many bytes, 65,520 bytes into its datagram."""
        whole = udp(net.client, net.vip, bytes(8 + length), df=False)
        last = fragments(whole, 16, identification=identification)[1]
        at, field = (6, 65_520 // 8) if net.version == 4 else (42, 65_520)
        return patched(last, at, field.to_bytes(2, "big"))

    reason = DropReason.BAD_IP_HEADER if net.version == 4 else DropReason.BAD_EXTENSION_HEADERS
    return plan(service(net, protocol=UDP)), [
        hold(ending(15, 0x1017)),
        drop(ending(16, 0x1017), reason, or_pass=True),
    ]


@packet_case()
def truncated(net):
    """A fragment that is shorter than its header says."""
    later = cut_up(net.client, net.vip, 0x1018)[1]
    return plan(service(net, protocol=UDP)), [
        drop(cut(later, len(later.packet) - 1), DropReason.TRUNCATED, or_pass=True)
    ]
