"""There and back again: every translation can be undone, and checksums say what they said before.

Checksums are judged by scapy here, which computes them anew from the bytes.
"""

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from l4lb.director.parse import parse
from l4lb.director.translate import Rewrite, translate, translate_error
from l4lb.model import Endpoint
from tests.property.effort import examples
from tests.property.moves import flags, numbers
from tests.unit.director import packets
from tests.unit.director.packets import Sent

ports = st.integers(0, 65_535)
# Addresses whose words sum to either zero are where sums go wrong.
edgy = st.sampled_from([b"\xff\xff\0\0", b"\0\1\xff\xfe", b"\1\0\0\0", b"\xfe\xff\0\xff"])


def addresses(size):
    return st.binary(min_size=size, max_size=size) | edgy.map(lambda four: four * (size // 4))


def ends(size):
    return st.tuples(*[st.builds(Endpoint, addresses(size), ports)] * 4)


changes = ends(4) | ends(16)  # client, VIP, what the backend sees, backend
payloads = st.binary(max_size=40) | st.sampled_from([b"\xff\xff", b"\0\0", b"\xff\xfe\0\1"])
shapes = st.fixed_dictionaries(
    {
        "protocol": st.sampled_from([packets.TCP, packets.UDP]),
        "flags": flags,
        "sequence": numbers,
        "payload": payloads,
        "ttl": st.integers(2, 255),
        "options": st.sampled_from([b"", bytes([1] * 12)]),
        "ip_options": st.sampled_from([b"", b"\1\1\1\0"]),
        "extensions": st.sampled_from([(), ((60, b"\0\1\4" + bytes(4)),)]),
    }
)


def right_by_scapy(frame):
    """Whether the transport checksum is the one that scapy computes; either zero is right for TCP."""
    layer = IP if frame[packets.IP] >> 4 == 4 else IPv6
    said = layer(bytes(frame[packets.IP :]))
    transport = TCP if TCP in said else UDP
    field = said[transport].chksum
    del said[transport].chksum
    computed = layer(bytes(said))[transport].chksum
    return field == computed or {field, computed} == {0, 0xFFFF}


def translated(sent, rewrite):
    frame = sent.frame()
    translate(frame, parse(frame, len(frame)), rewrite)
    return frame


@examples(150)
@given(changes, shapes, st.sampled_from(["full", "wrong"]))
def test_right_checksums_stay_right_and_wrong_ones_wrong(change, shape, sums):
    client, vip, source, backend = change
    sent = Sent(client, vip, checksum=sums, **shape)
    frame = translated(sent, Rewrite((client, vip), (source, backend)))
    seen = packets.read(frame)
    assert (seen.source, seen.destination, seen.ttl) == (source, backend, sent.ttl - 1)
    assert seen.payload == sent.payload
    assert seen.header_right
    assert right_by_scapy(frame) == (sums == "full")


@examples(150)
@given(changes, shapes, st.sampled_from(["full", "partial", "none", "wrong"]))
def test_the_mirrored_packet_comes_back_to_where_it_began(change, shape, sums):
    client, vip, source, backend = change
    sent = Sent(client, vip, checksum=sums, **shape)
    there = packets.read(translated(sent, Rewrite((client, vip), (source, backend))))
    reply = Sent(there.destination, there.source, checksum=sums, **shape)
    back = packets.read(translated(reply, Rewrite((backend, source), (vip, client))))
    assert (back.source, back.destination) == (vip, client)
    original = Sent(vip, client, checksum=sums, **{**shape, "ttl": shape["ttl"] - 1})
    if sums == "full" or (sums == "none" and sent.protocol == packets.UDP):
        assert bytes(back.packet) == original.packet() or _both_zeros(back.packet, original.packet())
    assert back.right == packets.read(original.frame()).right


def _both_zeros(one, other):
    """Equal but for a checksum that is 0 in the one and 0xffff in the other."""
    differing = [at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    return {bytes(data[at] for at in differing) for data in (one, other)} == {b"\0\0", b"\xff\xff"}


@examples(150)
@given(changes, shapes, st.integers(8, 60).filter(lambda length: length != 17))  # half a checksum
def test_errors_quote_what_was_sent(change, shape, length):
    """An error about a translated packet, translated back, quotes the packet as its sender built it."""
    client, vip, source, backend = change
    sent = Sent(client, vip, **shape)
    there = translated(sent, Rewrite((client, vip), (source, backend)))
    start = parse(there, len(there)).transport - packets.IP
    quote = bytes(there[packets.IP :])[: start + length]
    router = backend.ip[:-1] + bytes([backend.ip[-1] ^ 1])
    kind = 3 if client.version == 4 else 1
    frame = packets.icmp_error(router, source.ip, quote, kind=kind)
    packet = parse(frame, len(frame))
    translate_error(frame, packet, outer=(vip.ip, client.ip), quoted=(client, vip))
    seen = packets.read(frame)
    assert (seen.source.ip, seen.destination.ip, seen.ttl) == (vip.ip, client.ip, 63)
    assert seen.right
    expected = Sent(client, vip, **{**shape, "ttl": shape["ttl"] - 1}).packet()[: len(quote)]
    quoted = seen.packet[len(seen.packet) - len(quote) :]
    assert quoted == expected or _both_zeros(quoted, expected)
